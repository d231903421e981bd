package lima

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/flock"
	"github.com/auser/mvm/internal/source"
)

// Copies of this host's flakes and folders stay in the VM for the next build or
// start. Those that no tenant names any more are removed, while no command is
// between bringing one and having it named.

// defaultRoot is the state directory inside unless a command line names another.
const defaultRoot = "/var/lib/mvm"

// rootsFile lists the other state directories whose tenants may use copies.
const rootsFile = "/var/lib/mvm-lima/roots"

// noteScript adds a line to a file that lacks it.
const noteScript = `set -e
mkdir -p "${1%/*}"
exec 9>"$1.lock"
flock 9
grep -qxF -e "$2" "$1" 2>/dev/null || printf "%s\n" "$2" >>"$1"`

// HoldCopies keeps what a command line brings from being removed until release
// is called, and notes which state directory it is for.
func (vm *VM) HoldCopies(ctx context.Context, in Inputs, env []string) (release func(), err error) {
	if !in.brings() {
		return func() {}, nil
	}
	f, err := vm.openCopiesLock()
	if err != nil {
		return nil, err
	}
	err = lockFile(ctx, f, unix.LOCK_SH, func() { vm.Say("waiting for another mvm that removes copies from the Lima VM") })
	if root := in.stateDir(env); err == nil && root != defaultRoot {
		_, err = vm.inside(ctx, nil, "sudo", "sh", "-c", noteScript, "mvm", rootsFile, root)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot bring anything into the Lima VM: %w", err), f.Close())
	}
	return func() { f.Close() }, nil
}

func (vm *VM) openCopiesLock() (*os.File, error) {
	if err := os.MkdirAll(vm.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot lock the copies in the Lima VM: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(vm.Dir, vm.Name+".copies.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the copies in the Lima VM: %w", err)
	}
	return f, nil
}

// brings says whether a command line may copy something.
func (in *Inputs) brings() bool {
	return len(in.Volumes)+len(in.Overrides)+len(in.Flakes)+len(in.Runs) > 0 || in.Dev || in.Fleet || in.Tenant != ""
}

// stateDir is the state directory inside that a command is about.
func (in *Inputs) stateDir(env []string) string {
	root := in.Root
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, "MVM_ROOT="); ok && root == "" {
			root = value
		}
	}
	if root == "" {
		return defaultRoot
	}
	return filepath.Clean(in.abs(root))
}

// RemoveCopies removes the copies that no tenant names any more, or says which
// with dryRun. It does nothing while another command may be about to use one.
func (vm *VM) RemoveCopies(ctx context.Context, dryRun bool) error {
	f, err := vm.openCopiesLock()
	if err != nil {
		return err
	}
	defer f.Close()
	err = flock.Lock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		vm.Say("copies in the Lima VM stay as they are: another command may use them")
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot lock the copies in the Lima VM: %w", err)
	}
	copies, roots, err := vm.listCopies(ctx)
	if err != nil || len(copies) == 0 {
		return err
	}
	used, err := vm.named(ctx, roots)
	if err != nil {
		return err
	}
	for _, c := range copies {
		if slices.ContainsFunc(used, c.touches) {
			continue
		}
		from := strings.TrimPrefix(c.top, foldersDir)
		if dryRun {
			vm.Say("would remove the copy of %s from the Lima VM", from)
			continue
		}
		if _, err := vm.inside(ctx, nil, "sudo", "sh", "-c", removeScript, "mvm", c.record, c.top, c.hash, foldersDir); err != nil {
			return fmt.Errorf("cannot remove the copy of %s from the Lima VM: %w", from, err)
		}
		vm.Say("removed the copy of %s from the Lima VM", from)
	}
	return nil
}

// placed is a copy in the VM.
type placed struct{ record, top, hash string }

// touches says whether one of the copy and path lies in the other.
func (c placed) touches(path string) bool {
	return path == c.top || strings.HasPrefix(path, c.top+"/") || strings.HasPrefix(c.top, path+"/")
}

// listScript prints the records of copies and the state directories there are,
// each word ended by a zero byte.
const listScript = `for record in "$1"/*; do
  case "$record" in *.lock|*.new) continue ;; esac
  if [ -f "$record" ]; then printf "%s\0" copy "$record" "$(head -n 1 "$record")" "$(sed 1d "$record")"; fi
done
while IFS= read -r root; do
  if [ -d "$root" ]; then printf "%s\0" root "$root" "" ""; fi
done 2>/dev/null <"$2" || true
if [ -d "$3" ]; then printf "%s\0" root "$3" "" ""; fi`

// removeScript removes a copy, unless it was sent again. The record goes last:
// one that is killed before is found again, and a folder that is not whole is
// not where anybody looks for it.
const removeScript = `set -e
record=$1 top=$2 hash=$3 folders=$4
exec 9>"$record.lock"
flock 9
[ "$(head -n 1 "$record")" = "$hash" ] || exit 0
aside=${top%/*}/.mvm-sync.${record##*/}
rm -rf "$aside"
if [ -e "$top" ] || [ -L "$top" ]; then mv -T "$top" "$aside"; fi
rm -rf "$aside"
case "$top" in "$folders"/*)
  cd "$folders"
  parent=${top#"$folders"/}
  case "$parent" in */*) rmdir -p --ignore-fail-on-non-empty -- "${parent%/*}" 2>/dev/null || true ;; esac ;;
esac
rm -f "$record"`

func (vm *VM) listCopies(ctx context.Context) (copies []placed, roots []string, err error) {
	out, err := vm.inside(ctx, nil, "sudo", "sh", "-c", listScript, "mvm", syncDir, rootsFile, defaultRoot)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot list the copies in the Lima VM: %w", err)
	}
	words := strings.Split(out, "\x00")
	for ; len(words) >= 4; words = words[4:] {
		c := placed{record: words[1], hash: words[2], top: words[3]}
		switch {
		case words[0] == "root":
			roots = append(roots, words[1])
		case recordOf(c.top) == c.record && (strings.HasPrefix(c.top, foldersDir+"/") || checkDestination(c.top) == nil):
			copies = append(copies, c)
		}
	}
	return copies, roots, nil
}

// recordOf is the file inside that says which version of a folder is there, and
// which folder.
func recordOf(top string) string {
	sum := sha256.Sum256([]byte(top))
	return syncDir + "/" + hex.EncodeToString(sum[:8])
}

// named are the folders that the tenants of those state directories name, those
// of what runs now among them.
func (vm *VM) named(ctx context.Context, roots []string) (folders []string, err error) {
	for _, root := range roots {
		var tenants []shown
		var status struct {
			Dev struct {
				MicroVM shown `json:"microvm"`
			} `json:"dev"`
		}
		if err := vm.mustSay(ctx, &tenants, "tenant", "list", "--json", "--root", root); err != nil {
			return nil, err
		}
		if err := vm.mustSay(ctx, &status, "status", "--json", "--root", root); err != nil {
			return nil, err
		}
		for _, s := range append(tenants, status.Dev.MicroVM) {
			if s.Error != "" {
				return nil, fmt.Errorf("cannot tell what tenant %s uses: %s", s.ID, s.Error)
			}
			for _, spec := range []shownSpec{s.Spec, s.State.Spec} {
				for _, v := range spec.Volumes {
					folders = append(folders, v.Folder)
				}
				if r, err := source.Parse(spec.FlakeRef, "/"); err == nil && r.Local { // others are no copies of ours
					folders = append(folders, r.Path)
				}
			}
		}
	}
	return slices.DeleteFunc(folders, func(f string) bool { return f == "" }), nil
}

// mustSay reads the JSON that a command inside prints.
func (vm *VM) mustSay(ctx context.Context, to any, args ...string) error {
	out, err := vm.inside(ctx, nil, append([]string{"sudo", "/usr/local/bin/mvm"}, args...)...)
	if err == nil {
		err = json.Unmarshal([]byte(out), to)
	}
	if err != nil {
		return fmt.Errorf("cannot tell what the tenants in the Lima VM use: %w", err)
	}
	return nil
}

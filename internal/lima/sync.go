package lima

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/auser/mvm/internal/source"
)

// A Source is a local flake as it is known inside.
type Source struct {
	Ref  string // what to say instead of the local reference
	Top  string // the folder that was copied, the same on both sides
	Hash string
	Sent bool // false: it was there already
}

// IsLocal says whether a flake reference names a folder of this host.
func IsLocal(ref string) bool {
	r, err := source.Parse(ref, "/")
	return err == nil && r.Local
}

// Sync copies a local flake into the VM, to the same path as here: what a
// build on this host would see of it, as one immutable snapshot, so that
// nothing half-written gets there. What is there already is not sent again.
func (vm *VM) Sync(ctx context.Context, ref, dir string) (Source, error) {
	r, err := source.Parse(ref, dir)
	if err != nil {
		return Source{}, err
	}
	if r.NamesCommit() {
		return Source{}, &Error{Msg: fmt.Sprintf("flake reference %q names a commit, which is not copied into the Lima VM", ref),
			Hint: "check that commit out into a folder and name the folder"}
	}
	top, err := sourceTop(r.Path)
	if err != nil {
		return Source{}, fmt.Errorf("cannot copy flake %s: %w", ref, err)
	}
	if err := checkDestination(top); err != nil {
		return Source{}, err
	}
	if err := os.MkdirAll(vm.Dir, 0o700); err != nil {
		return Source{}, fmt.Errorf("cannot copy flake %s: %w", ref, err)
	}
	tmp, err := os.MkdirTemp(vm.Dir, "src-")
	if err != nil {
		return Source{}, fmt.Errorf("cannot copy flake %s: %w", ref, err)
	}
	defer os.RemoveAll(tmp)
	snapshot, err := source.Take(ctx, r.String(), tmp)
	if err != nil {
		return Source{}, err
	}
	s := Source{Ref: insideRef(r.String(), top, snapshot.FlakeDir), Top: top, Hash: snapshot.Hash}
	sent, err := vm.send(ctx, s, func(w io.Writer) error { return writeTar(w, snapshot.Path) })
	if err != nil {
		return Source{}, fmt.Errorf("cannot copy %s into the Lima VM: %w", top, err)
	}
	s.Sent = sent
	return s, nil
}

// sourceTop is the folder that a snapshot is taken of: the repository's top,
// or the folder itself where there is none.
func sourceTop(dir string) (string, error) {
	for top := dir; ; top = filepath.Dir(top) {
		if _, err := os.Lstat(filepath.Join(top, ".git")); err == nil {
			return filepath.EvalSymlinks(top)
		}
		if top == filepath.Dir(top) {
			return dir, nil
		}
	}
}

// insideRef says the same inside, where there is no repository to show how far
// up the source reaches.
func insideRef(abs, top, flakeDir string) string {
	if abs == top && (flakeDir == "" || flakeDir == "nix") {
		return top
	}
	if flakeDir == "" {
		return "path:" + (&url.URL{Path: top}).EscapedPath()
	}
	return "path:" + (&url.URL{Path: top}).EscapedPath() + "?" + url.Values{"dir": {flakeDir}}.Encode()
}

// systemDirs are the VM's own: nothing is copied over them.
var systemDirs = []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/nix", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var"}

func checkDestination(top string) error {
	refuse := strings.Count(path.Clean(top), "/") < 2
	for _, dir := range systemDirs {
		refuse = refuse || top == dir || strings.HasPrefix(top, dir+"/")
	}
	// Where macOS keeps temporary folders.
	if refuse && !strings.HasPrefix(top, "/var/folders/") {
		return &Error{Msg: top + " is a folder of the system's inside the Lima VM", Hint: "move the flake to a folder of your own, below your home"}
	}
	return nil
}

// receiveScript unpacks standard input and puts it in the place of the folder,
// if it arrived whole: the last entry says so. What was there is moved aside
// first: a reader finds the old tree, for a moment none, or the new one, and
// never a mixture.
const receiveScript = `set -e
record=$1 top=$2 hash=$3
mkdir -p "${record%/*}" "${top%/*}"
exec 9>"$record.lock"
flock 9
new=${top%/*}/.mvm-sync.${record##*/}
rm -rf "$new"
trap 'rm -rf "$new"' EXIT
mkdir "$new"
tar -xpf - -C "$new"
[ -f "$new/complete" ] || { echo "the copy was cut short" >&2; exit 1; }
rm -f "$record"
if [ -e "$top" ] || [ -L "$top" ]; then mv -T "$top" "$new/old"; fi
mv -T "$new/tree" "$top"
printf "%s\n%s\n" "$hash" "$top" >"$record.new"
mv "$record.new" "$record"`

// hasScript says which version of the folder is there.
const hasScript = `if [ -d "$2" ]; then head -n 1 "$1" 2>/dev/null || true; fi`

const syncDir = "/var/lib/mvm-lima/sync"

// send has the VM receive what write writes, unless it has that already.
func (vm *VM) send(ctx context.Context, s Source, write func(io.Writer) error) (sent bool, err error) {
	record := recordOf(s.Top)
	have, err := vm.inside(ctx, nil, "sudo", "sh", "-c", hasScript, "mvm", record, s.Top)
	if err != nil || strings.TrimSpace(have) == s.Hash {
		return false, err
	}
	vm.Say("copying %s into the Lima VM", strings.TrimPrefix(s.Top, foldersDir))
	r, w := io.Pipe()
	go func() { w.CloseWithError(write(w)) }()
	_, err = vm.inside(ctx, r, "sudo", "sh", "-c", receiveScript, "mvm", record, s.Top, s.Hash)
	r.CloseWithError(io.ErrClosedPipe)
	return true, err
}

// writeTar writes the tree in an order and with attributes that depend on
// nothing but names, contents and which files are executable.
func writeTar(w io.Writer, tree string) error {
	var names []string
	err := filepath.WalkDir(tree, func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	tw := tar.NewWriter(w)
	for _, name := range names {
		if err := writeEntry(tw, tree, name); err != nil {
			return err
		}
	}
	return writeEnd(tw)
}

// writeEnd says that all has arrived.
func writeEnd(tw *tar.Writer) error {
	if err := tw.WriteHeader(&tar.Header{Format: tar.FormatPAX, Name: "complete", Typeflag: tar.TypeReg, ModTime: time.Unix(1, 0), Mode: 0o644}); err != nil {
		return err
	}
	return tw.Close()
}

func writeEntry(tw *tar.Writer, tree, name string) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(tree, name)
	if err != nil {
		return err
	}
	h := &tar.Header{Format: tar.FormatPAX, Name: path.Join("tree", filepath.ToSlash(rel)), ModTime: time.Unix(1, 0), Mode: 0o644}
	switch {
	case info.IsDir():
		h.Typeflag, h.Mode, h.Name = tar.TypeDir, 0o755, h.Name+"/"
		return tw.WriteHeader(h)
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		if h.Linkname, err = os.Readlink(name); err != nil {
			return err
		}
		return tw.WriteHeader(h)
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if info.Mode()&0o111 != 0 {
		h.Mode = 0o755
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(tw, f)
	return err
}

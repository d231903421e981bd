package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/run"
)

// gitRepo is a working tree. git runs as its owner: a repository's own
// configuration can name programs to run, and mvm is usually root.
type gitRepo struct {
	top  string
	cred *syscall.Credential // nil: as ourselves
	home string
}

// findGit returns the repository that dir is in, or nil. One that does not belong
// to the owner of its folder may be a stranger's, since anybody can make
// /tmp/.git: it is not used, and the folder returned.
func findGit(dir string) (g *gitRepo, stranger string, err error) {
	for top := dir; ; top = filepath.Dir(top) {
		own, err := ownGit(top)
		switch {
		case own:
			g, err := openGit(top)
			return g, "", err
		case err == nil && stranger == "":
			stranger = top
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return nil, "", err
		}
		if top == filepath.Dir(top) {
			return nil, stranger, nil
		}
	}
}

// ownGit tells whether there is a .git in the folder top, of the same owner.
func ownGit(top string) (bool, error) {
	var git, folder syscall.Stat_t
	if err := syscall.Lstat(filepath.Join(top, ".git"), &git); err != nil {
		return false, err
	}
	err := syscall.Stat(top, &folder)
	return git.Uid == folder.Uid, err
}

func openGit(top string) (*gitRepo, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, &fault.Error{Kind: fault.ErrHost, Msg: "cannot read the git repository " + top, Err: err, Hint: "install git"}
	}
	// The top may be reached through a symbolic link, which git resolves.
	top, err := filepath.EvalSymlinks(top)
	if err != nil {
		return nil, err
	}
	g := &gitRepo{top: top}
	info, err := os.Stat(top)
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || owner.Uid == 0 {
		return g, nil
	}
	g.cred = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	if u, err := user.LookupId(strconv.FormatUint(uint64(owner.Uid), 10)); err == nil {
		g.home = u.HomeDir // what its owner ignores everywhere
	}
	return g, nil
}

func (g *gitRepo) command(ctx context.Context, args ...string) *exec.Cmd {
	args = append([]string{"-C", g.top, "--no-optional-locks",
		"-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.untrackedCache=false"}, args...)
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = "/"
	if g.cred != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: g.cred}
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + g.home, "LC_ALL=C"}
	}
	return cmd
}

func (g *gitRepo) output(ctx context.Context, args ...string) ([]byte, error) {
	cmd := g.command(ctx, args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, &run.Error{Argv: cmd.Args, Stderr: strings.TrimSpace(stderr.String()), Err: err}
	}
	return out.Bytes(), nil
}

// state returns the commit that is checked out, "" before the first one, and
// whether the working tree differs from it.
func (g *gitRepo) state(ctx context.Context) (rev string, dirty bool, err error) {
	out, err := g.output(ctx, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal")
	if err != nil {
		return "", false, err
	}
	for _, line := range strings.Split(string(out), "\x00") {
		if oid, ok := strings.CutPrefix(line, "# branch.oid "); ok {
			if fullRevision.MatchString(oid) {
				rev = oid
			}
			continue
		}
		if line != "" && !strings.HasPrefix(line, "# ") {
			dirty = true
		}
	}
	return rev, dirty || rev == "", nil
}

// worktree lists what git tracks plus what it does not ignore.
func (g *gitRepo) worktree(ctx context.Context) (*sourceTree, error) {
	out, err := g.output(ctx, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	paths := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if len(out) == 0 {
		paths = nil
	}
	return listedTree(g.top, paths)
}

// resolve turns a branch, tag or commit into a commit.
func (g *gitRepo) resolve(ctx context.Context, ref string) (string, error) {
	out, err := g.output(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
	if err != nil {
		return "", &fault.Error{Kind: fault.ErrInput, Msg: fmt.Sprintf("the repository %s has no commit %q", g.top, ref), Hint: "see `git log`"}
	}
	return strings.TrimSpace(string(out)), nil
}

// commit lists the tree of one commit, as it is stored: no filters, no
// attributes.
func (g *gitRepo) commit(ctx context.Context, rev string) (*sourceTree, error) {
	out, err := g.output(ctx, "ls-tree", "-r", "-z", "--long", "--full-tree", rev)
	if err != nil {
		return nil, err
	}
	objects, err := g.startObjects(ctx)
	if err != nil {
		return nil, err
	}
	t := newTree()
	t.close = objects.close
	t.open = func(e *entry) (io.ReadCloser, error) { return objects.open(e.object, e.size) }
	for _, line := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if line == "" {
			continue
		}
		if err := t.addFromGit(line, objects); err != nil {
			t.close()
			return nil, err
		}
	}
	t.sort()
	return t, nil
}

// addFromGit enters one line of ls-tree: "mode type object size<TAB>path".
func (t *sourceTree) addFromGit(line string, objects *gitObjects) error {
	meta, p, ok := strings.Cut(line, "\t")
	fields := strings.Fields(meta)
	if !ok || len(fields) != 4 {
		return fmt.Errorf("cannot read git's answer %q", line)
	}
	if fields[0] == "160000" {
		t.warn("%q is a git submodule and stays empty in the source", p)
		return t.add(&entry{path: p, kind: folder})
	}
	size, err := strconv.ParseInt(fields[3], 10, 64)
	if err != nil {
		return fmt.Errorf("cannot read git's answer %q", line)
	}
	e := &entry{path: p, object: fields[2], size: size, executable: fields[0] == "100755"}
	if fields[0] == "120000" {
		r, err := objects.open(e.object, size)
		if err != nil {
			return err
		}
		target, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		e.kind, e.target = symlink, string(target)
		t.checkLink(e)
	}
	return t.add(e)
}

// gitObjects reads blobs from one git process.
type gitObjects struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (g *gitRepo) startObjects(ctx context.Context) (*gitObjects, error) {
	cmd := g.command(ctx, "cat-file", "--batch")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &gitObjects{cmd: cmd, in: in, out: bufio.NewReaderSize(out, 1<<16)}, nil
}

// open returns one blob; it must be read and closed before the next one.
func (o *gitObjects) open(object string, size int64) (io.ReadCloser, error) {
	if _, err := io.WriteString(o.in, object+"\n"); err != nil {
		return nil, err
	}
	header, err := o.out.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if want := fmt.Sprintf("%s blob %d\n", object, size); header != want {
		return nil, fmt.Errorf("cannot read git object %s: %s", object, strings.TrimSpace(header))
	}
	return &blob{Reader: io.LimitReader(o.out, size), rest: o.out}, nil
}

func (o *gitObjects) close() error {
	o.in.Close()
	return o.cmd.Wait()
}

type blob struct {
	io.Reader
	rest *bufio.Reader
}

// Close skips what was not read and the newline that ends a blob.
func (b *blob) Close() error {
	if _, err := io.Copy(io.Discard, b.Reader); err != nil {
		return err
	}
	_, err := b.rest.Discard(1)
	return err
}

package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/fault"
)

// Snapshot is an immutable copy of a local source tree.
type Snapshot struct {
	Hash     string // sha256 of the tree in Nix's archive format, hexadecimal: the folder's name
	NARHash  string // the same, as Nix writes it
	Path     string // SrcDir/<hash>
	FlakeDir string // where flake.nix is in it; "" is its root
	URL      string // what Nix would fetch to get the same source
	Revision string // git commit, if there is one
	Dirty    bool   // differs from that commit
	Bytes    int64
	Warnings []string
}

// EmptyRegistry keeps Nix from looking up flakes by names that can change
// their meaning.
const EmptyRegistry = `{"flakes":[],"version":2}`

// NixRef is the snapshot as Nix in the container names it. A flake below the
// tree's root needs a registry entry: path:/src?dir=… is too new for Nix 2.8,
// and path:/src/… would hide the rest of the tree from it.
func (s Snapshot) NixRef() (ref, registry string) {
	if s.FlakeDir == "" {
		return "path:/src", EmptyRegistry
	}
	type object map[string]any
	entry := object{
		"from": object{"type": "indirect", "id": "tenant"},
		"to":   object{"type": "path", "path": "/src", "dir": s.FlakeDir},
	}
	data, err := json.Marshal(object{"version": 2, "flakes": []object{entry}})
	if err != nil {
		panic(err) // strings and numbers always have a JSON form
	}
	return "flake:tenant", string(data)
}

// Take copies a local source into srcDir, unless the same tree is
// there already: what git tracks plus what it does not ignore, or all files
// where there is no git.
func Take(ctx context.Context, ref, srcDir string) (Snapshot, error) {
	r, err := Parse(ref, "/")
	if err != nil {
		return Snapshot{}, err
	}
	if !r.Local {
		return Snapshot{}, badRef(ref, "is not a local one")
	}
	if err := checkFolder(r); err != nil {
		return Snapshot{}, err
	}
	s, err := takeSnapshot(ctx, r, srcDir)
	if err != nil {
		return Snapshot{}, fmt.Errorf("cannot take a snapshot of %s: %w", r.Path, err)
	}
	return s, nil
}

func takeSnapshot(ctx context.Context, r Ref, srcDir string) (Snapshot, error) {
	var s Snapshot
	top, t, err := readSource(ctx, r, &s)
	if err != nil {
		return s, err
	}
	defer t.close()
	start, err := relativeTo(top, r.Path)
	if err != nil {
		return s, err
	}
	if s.FlakeDir, err = flakeDir(start, r.dir, t.has); err != nil {
		return s, noFlake(r, top, start)
	}
	s.Warnings, s.Bytes = t.warnings, t.bytes
	digest, err := storeTree(t, srcDir)
	if err != nil {
		return s, err
	}
	s.Hash, s.NARHash = digest.Hex(), digest.SRI()
	s.Path = filepath.Join(srcDir, s.Hash)
	s.URL = sourceURL(top, s)
	return s, nil
}

const notUsed = "the git repository %s belongs to another user than its folder, and is not used"

// readSource lists the source and fills in what git says of it.
func readSource(ctx context.Context, r Ref, s *Snapshot) (top string, t *sourceTree, err error) {
	git, stranger, err := findGit(r.Path)
	if err != nil {
		return "", nil, err
	}
	wanted := r.rev
	if wanted == "" {
		wanted = r.ref
	}
	switch {
	case git == nil && wanted != "" && stranger != "":
		return "", nil, &fault.Error{Kind: fault.ErrInput, Msg: fmt.Sprintf(notUsed, stranger), Hint: refHint}
	case git == nil && wanted != "":
		return "", nil, &fault.Error{Kind: fault.ErrInput, Msg: r.Path + " is in no git repository", Hint: refHint}
	case git == nil:
		s.Dirty = false
		t, err = folderTree(r.Path)
		if err == nil && stranger != "" {
			t.warn(notUsed, stranger)
		}
		return r.Path, t, err
	case wanted != "":
		if s.Revision, err = git.resolve(ctx, wanted); err != nil {
			return "", nil, err
		}
		t, err = git.commit(ctx, s.Revision)
		return git.top, t, err
	}
	var state errgroup.Group
	state.Go(func() error {
		var err error
		s.Revision, s.Dirty, err = git.state(ctx)
		return err
	})
	t, err = git.worktree(ctx)
	if stateErr := state.Wait(); err == nil && stateErr != nil {
		t.close()
		err = stateErr
	}
	return git.top, t, err
}

func relativeTo(top, dir string) (string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	top, err = filepath.EvalSymlinks(top)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(top, dir)
	if err != nil || rel == "." {
		return "", err
	}
	return filepath.ToSlash(rel), nil
}

func noFlake(r Ref, top, start string) error {
	want := filepath.Join(top, start, r.dir, "flake.nix")
	e := &fault.Error{Kind: fault.ErrInput, Msg: "there is no " + want, Hint: "name the folder that holds flake.nix, or one with nix/flake.nix"}
	if _, err := os.Lstat(want); err == nil {
		e.Msg = want + " is ignored by git and so is not part of the source"
		e.Hint = "take it out of .gitignore, or `git add --force` it"
	}
	return e
}

// sourceURL says where the same source can be had: from the commit where the
// tree is one, else from the folder as long as it has this hash.
func sourceURL(top string, s Snapshot) string {
	query := url.Values{}
	if s.FlakeDir != "" {
		query.Set("dir", s.FlakeDir)
	}
	u := url.URL{Scheme: "path", Path: top}
	if s.Revision != "" && !s.Dirty {
		u.Scheme = "git+file"
		query.Set("rev", s.Revision)
	} else {
		query.Set("narHash", s.NARHash)
	}
	if u.Scheme == "path" {
		return "path:" + u.EscapedPath() + "?" + query.Encode()
	}
	return "git+file://" + u.EscapedPath() + "?" + query.Encode()
}

// storeTree puts the tree into srcDir/<hash>. Files are not synced one by one:
// Nix computes the same hash again before it uses a snapshot, and a build
// refuses one that differs.
func storeTree(t *sourceTree, srcDir string) (narDigest, error) {
	digest, err := narHash(t, nil)
	if err != nil {
		return narDigest{}, err
	}
	if _, err := os.Lstat(filepath.Join(srcDir, digest.Hex())); err == nil {
		return digest, nil
	}
	tmp, err := atomicfile.NewDir(srcDir)
	if err != nil {
		return narDigest{}, err
	}
	defer tmp.Discard()
	root, err := os.OpenRoot(tmp.Path)
	if err != nil {
		return narDigest{}, err
	}
	defer root.Close()
	// The files may have changed since they were hashed: the hash of what was
	// copied is the one that counts.
	digest, err = narHash(t, func(e *entry) (io.WriteCloser, error) { return create(root, e) })
	if err != nil {
		return narDigest{}, fmt.Errorf("cannot copy: %w", err)
	}
	held, err := tmp.Publish(filepath.Join(srcDir, digest.Hex()))
	if held != nil {
		held.Close() // whoever builds from it holds it then
	}
	return digest, err
}

// create makes one entry of a snapshot.
func create(root *os.Root, e *entry) (io.WriteCloser, error) {
	name := filepath.FromSlash(e.path)
	switch e.kind {
	case folder:
		if name == "" {
			return nil, nil
		}
		// Both modes are set again, because the umask may have cut them and
		// the builder in the container is another user.
		return nil, errors.Join(root.Mkdir(name, 0o755), root.Chmod(name, 0o755))
	case symlink:
		return nil, root.Symlink(filepath.FromSlash(e.target), name)
	}
	mode := os.FileMode(0o444)
	if e.executable {
		mode = 0o555
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, err
	}
	return f, f.Chmod(mode)
}

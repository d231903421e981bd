package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"github.com/auser/mvm/internal/fault"
)

// sourceTree is the list of files that a snapshot is made of, whether they come
// from a folder, a git working tree or a git commit.
type sourceTree struct {
	entries  map[string]*entry // by slash-separated path; "" is the root
	bytes    int64
	warnings []string
	open     func(e *entry) (io.ReadCloser, error)
	close    func() error
}

// entry is one file, symbolic link or folder.
type entry struct {
	path       string
	kind       entryKind
	executable bool
	size       int64
	target     string   // of a symbolic link
	children   []string // of a folder: names, sorted
	object     string   // of a git commit: the blob
}

type entryKind int

const (
	regularFile entryKind = iota
	symlink
	folder
)

// maxSourceBytes bounds a source tree. Sources are text; what is larger was
// most likely not meant to be part of one.
const maxSourceBytes = 1 << 30

func newTree() *sourceTree {
	return &sourceTree{
		entries: map[string]*entry{"": {kind: folder}},
		close:   func() error { return nil },
	}
}

func (t *sourceTree) has(p string) bool {
	_, ok := t.entries[p]
	return ok
}

// add enters e and the folders above it.
func (t *sourceTree) add(e *entry) error {
	t.entries[e.path] = e
	if e.kind == regularFile {
		t.bytes += e.size
		if t.bytes > maxSourceBytes {
			return t.tooLarge()
		}
	}
	for child := e.path; child != ""; {
		parent := path.Dir(child)
		if parent == "." {
			parent = ""
		}
		p, known := t.entries[parent]
		if !known {
			p = &entry{path: parent, kind: folder}
			t.entries[parent] = p
		}
		p.children = append(p.children, path.Base(child))
		if known {
			break
		}
		child = parent
	}
	return nil
}

func (t *sourceTree) tooLarge() error {
	var largest *entry
	for _, e := range t.entries {
		if e.kind == regularFile && (largest == nil || e.size > largest.size) {
			largest = e
		}
	}
	return &fault.Error{
		Kind: fault.ErrInput,
		Msg: fmt.Sprintf("the source tree is larger than %d MiB; its largest file is %q with %d MiB",
			maxSourceBytes>>20, largest.path, largest.size>>20),
		Hint: "list what the build does not need in .gitignore",
	}
}

// sort puts every folder's children in the order that the archive format wants.
func (t *sourceTree) sort() {
	for _, e := range t.entries {
		sort.Strings(e.children)
	}
}

// folderTree lists everything below dir, which is not in git.
func folderTree(dir string) (*sourceTree, error) {
	return diskTree(dir, func(t *sourceTree, root *os.Root) error {
		return fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil || p == "." {
				return err
			}
			return t.addFromDisk(root, p)
		})
	})
}

// listedTree lists the given paths below dir.
func listedTree(dir string, paths []string) (*sourceTree, error) {
	return diskTree(dir, func(t *sourceTree, root *os.Root) error {
		for _, p := range paths {
			if name, nested := strings.CutSuffix(p, "/"); nested {
				t.warn("%q is a git repository of its own and not part of the source", name)
				continue
			}
			if t.has(p) || !t.inRealFolder(root, p) {
				continue // listed once per stage of a merge; or its folder is a link by now
			}
			if err := t.addFromDisk(root, p); err != nil {
				return err
			}
			if e := t.entries[p]; e != nil && e.kind == folder {
				t.warn("%q is a git submodule and stays empty in the source", p)
			}
		}
		return nil
	})
}

func diskTree(dir string, list func(*sourceTree, *os.Root) error) (*sourceTree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	t := newTree()
	t.close = root.Close
	t.open = func(e *entry) (io.ReadCloser, error) { return openRegular(root, e.path) }
	if err := list(t, root); err != nil {
		root.Close()
		return nil, err
	}
	t.sort()
	return t, nil
}

// inRealFolder tells whether p is reached without a symbolic link. Where a
// tracked folder was replaced by a link, git still lists the files in it.
func (t *sourceTree) inRealFolder(root *os.Root, p string) bool {
	dir := path.Dir(p)
	if dir == "." {
		return true
	}
	if e, ok := t.entries[dir]; ok {
		return e.kind == folder
	}
	info, err := root.Lstat(filepath.FromSlash(dir))
	return err == nil && info.IsDir() && t.inRealFolder(root, dir)
}

// addFromDisk enters the file p as it is now. One that is gone is left out:
// git lists what was deleted but not yet committed.
func (t *sourceTree) addFromDisk(root *os.Root, p string) error {
	info, err := root.Lstat(filepath.FromSlash(p))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	e := &entry{path: p, size: info.Size(), executable: info.Mode()&0o100 != 0}
	switch mode := info.Mode(); {
	case mode.IsRegular():
	case mode.IsDir():
		e.kind = folder
	case mode&fs.ModeSymlink != 0:
		e.kind = symlink
		if e.target, err = root.Readlink(filepath.FromSlash(p)); err != nil {
			return err
		}
		t.checkLink(e)
	default:
		return &fault.Error{Kind: fault.ErrInput,
			Msg:  fmt.Sprintf("the source tree holds %q, which is a %s", p, specialName(mode)),
			Hint: "only files, folders and symbolic links can be built from; remove it or list it in .gitignore"}
	}
	return t.add(e)
}

func specialName(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	}
	return "device"
}

// checkLink warns of a link that leads out of the tree. It is kept as it is:
// in the container it leads nowhere, so nothing of the host gets in.
func (t *sourceTree) checkLink(e *entry) {
	target := filepath.FromSlash(e.target)
	if filepath.IsAbs(target) || !filepath.IsLocal(filepath.Join(filepath.Dir(filepath.FromSlash(e.path)), target)) {
		t.warn("the symbolic link %q leads out of the source tree to %q and dangles in the build", e.path, e.target)
	}
}

func (t *sourceTree) warn(format string, args ...any) {
	t.warnings = append(t.warnings, fmt.Sprintf(format, args...))
}

// openRegular opens a file that was a regular one when it was listed, without
// following or waiting for what may have taken its place.
func openRegular(root *os.Root, p string) (io.ReadCloser, error) {
	f, err := root.OpenFile(filepath.FromSlash(p), os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q changed while it was read", p)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

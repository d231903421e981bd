package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/auser/mvm/internal/atomicfile"
)

// published is an image that is held against GC until it is released.
type published struct {
	hash      string
	artifacts []Artifact
	isNew     bool
	lock      *os.File
}

func (p *published) release() { p.lock.Close() }

// publish checks what the container wrote into outDir and moves it into
// imagesDir/<hash>. Nobody sees the folder before it is whole.
func publish(outDir, imagesDir, system string, checkBase func([]byte) error) (*published, error) {
	tmp, err := atomicfile.NewDir(imagesDir)
	if err != nil {
		return nil, err
	}
	defer tmp.Discard()
	names := []string{Kernel, Rootfs, Initrd, BaseConfig}
	adopted, errs := make([]stamp, len(names)), make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			adopted[i], errs[i] = adopt(filepath.Join(outDir, name), filepath.Join(tmp.Path, name), func(f *os.File) error {
				return checkArtifact(name, system, f, checkBase)
			})
		})
	}
	all.Wait()
	p := &published{}
	stamps := stampFile{}
	for i, name := range names {
		if name == Initrd && errors.Is(errs[i], fs.ErrNotExist) {
			continue
		}
		if errs[i] != nil {
			return nil, fmt.Errorf("cannot accept %s: %w", name, errs[i])
		}
		s := adopted[i]
		stamps[name] = s
		p.artifacts = append(p.artifacts, Artifact{Name: name, SHA256: s.SHA256, Size: s.Size})
	}
	if err := stamps.write(tmp.Path); err != nil {
		return nil, err
	}
	p.hash = imageHash(p.artifacts)
	return p, p.enter(tmp, imagesDir)
}

// enter makes tmp the image, unless a sound one is there already, and holds it.
func (p *published) enter(tmp *atomicfile.Dir, imagesDir string) error {
	target := filepath.Join(imagesDir, p.hash)
	m := Manifest{Image: p.hash, Artifacts: p.artifacts}
	for {
		held, err := tmp.Publish(target)
		if err != nil {
			return err
		}
		if held != nil {
			p.lock, p.isNew = held, true
			return nil
		}
		p.lock, err = atomicfile.HoldDir(target)
		if errors.Is(err, fs.ErrNotExist) {
			continue // collected between the two
		}
		if err != nil {
			return err
		}
		if Verify(m, imagesDir, VerifyQuick) == nil {
			return nil
		}
		// The old folder is damaged. VMs that run from its files keep them.
		p.lock.Close()
		if err := atomicfile.SetAside(target); err != nil {
			return err
		}
	}
}

// adopt takes over a file that the container wrote: it is no longer the
// container's, nobody can write to it, and what was checked is what is hashed.
func adopt(from, to string, check func(*os.File) error) (stamp, error) {
	f, err := openRegularAt(from)
	if err != nil {
		return stamp{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return stamp{}, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink != 1 {
		return stamp{}, fmt.Errorf("%s has a second name", filepath.Base(from))
	}
	if err := check(f); err != nil {
		return stamp{}, err
	}
	if err := os.Rename(from, to); errors.Is(err, syscall.EXDEV) {
		return adoptCopy(f, to)
	} else if err != nil {
		return stamp{}, err
	}
	return seal(f)
}

// seal makes f root's and read-only, puts it on disk and hashes it.
func seal(f *os.File) (stamp, error) {
	if os.Geteuid() == 0 {
		if err := f.Chown(0, 0); err != nil {
			return stamp{}, err
		}
	}
	if err := errors.Join(f.Chmod(0o444), f.Sync()); err != nil {
		return stamp{}, err
	}
	return hashOpen(f)
}

// adoptCopy is for an images folder on another file system.
func adoptCopy(f *os.File, to string) (stamp, error) {
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return stamp{}, err
	}
	defer out.Close()
	if err := copySparse(out, f); err != nil {
		return stamp{}, err
	}
	return seal(out)
}

// copySparse copies f and leaves holes where it has long runs of zeros.
func copySparse(out, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	for offset := int64(0); offset < info.Size(); {
		n, err := f.ReadAt(buf, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%s became shorter", f.Name())
		}
		if !allZero(buf[:n]) {
			if _, err := out.WriteAt(buf[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
	}
	return out.Truncate(info.Size())
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

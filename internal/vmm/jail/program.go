package jail

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Program is what the program at path needs to run in a jail: itself and,
// where it is linked dynamically, the host's libraries. at is its path there.
func Program(path string) (at string, n Needs, err error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", n, err
	}
	dynamic, err := isDynamic(real)
	if err != nil {
		return "", n, fmt.Errorf("cannot read %s: %w", real, err)
	}
	if !dynamic {
		at = "/" + filepath.Base(real)
		n.Binds = []Bind{{real, at}}
		return at, n, nil
	}
	n, err = libraries()
	if err != nil {
		return "", n, err
	}
	covered := false
	for _, b := range n.Binds {
		covered = covered || strings.HasPrefix(real, b.Host+"/")
	}
	if !covered { // in a prefix of its own, such as /opt/qemu/bin
		prefix := filepath.Dir(filepath.Dir(real))
		if prefix == "/" {
			prefix = filepath.Dir(real)
		}
		n.Binds = append(n.Binds, Bind{prefix, prefix})
	}
	return real, n, nil
}

func isDynamic(path string) (bool, error) {
	f, err := elf.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return true, nil
		}
	}
	return false, nil
}

// libraries are the folders that a host's programs and libraries are in. Where
// /lib is a link into /usr, it is one in the jail.
func libraries() (n Needs, err error) {
	for _, dir := range []string{"/usr", "/nix/store", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache"} {
		info, err := os.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return n, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			n.Binds = append(n.Binds, Bind{dir, dir})
			continue
		}
		target, err := os.Readlink(dir)
		if err != nil {
			return n, err
		}
		n.Links = append(n.Links, Link{dir, target})
	}
	return n, nil
}

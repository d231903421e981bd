package install

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
)

// Bounds of a release, several times what one has.
const (
	maxArchive = 256 << 20
	maxProgram = 64 << 20
)

// unpack takes the two programs out of a release archive, in which they are
// release-v<version>-<machine>/<program>-v<version>-<machine>, and nothing
// else.
func unpack(archive, machine, to string) error {
	wanted := regexp.MustCompile(`^(firecracker|jailer)-v[0-9.]+-` + regexp.QuoteMeta(machine) + `$`)
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	found := map[string]bool{}
	for files := tar.NewReader(io.LimitReader(zipped, maxArchive*4)); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		match := wanted.FindStringSubmatch(path.Base(header.Name))
		if match == nil || header.Typeflag != tar.TypeReg {
			continue
		}
		name := match[1]
		if found[name] {
			return fmt.Errorf("it holds %s twice", name)
		}
		if header.Size > maxProgram {
			return fmt.Errorf("%s has %d bytes", name, header.Size)
		}
		if _, err := writeFile(filepath.Join(to, name), files, 0o755); err != nil {
			return err
		}
		found[name] = true
	}
	for _, name := range programs {
		if !found[name] {
			return fmt.Errorf("it holds no %s for %s", name, machine)
		}
	}
	return nil
}

package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// checkSame says where the second build's artifacts differ from the first's.
func (b *builder) checkSame(out string) error {
	if _, err := os.Lstat(filepath.Join(out, "differs")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, k := range outputKinds {
		where, err := compareFiles(filepath.Join(out, k.artifact), filepath.Join(out, "check", k.artifact))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the same: Nix kept no second one
		}
		if err != nil {
			return fmt.Errorf("cannot compare the two builds: %w", err)
		}
		if where != "" {
			return &Error{Kind: ErrBuild, Msg: fmt.Sprintf("the build is not reproducible: %s %s", k.artifact, where),
				Hint: "look for timestamps, random identifiers and the order of directory entries"}
		}
	}
	return &Error{Kind: ErrBuild, Msg: "the build is not reproducible: Nix's second build differs from the first",
		Log: b.log.lastWords(), Hint: "the whole log is in " + b.req.LogPath}
}

func compareFiles(first, second string) (where string, err error) {
	y, err := openRegularAt(second)
	if err != nil {
		return "", err
	}
	defer y.Close()
	x, err := openRegularAt(first)
	if err != nil {
		return "", err
	}
	defer x.Close()
	return firstDifference(x, y)
}

// firstDifference describes where two files begin to differ.
func firstDifference(x, y io.Reader) (string, error) {
	bufX, bufY := make([]byte, 1<<20), make([]byte, 1<<20)
	var offset, first, count int64 = 0, -1, 0
	for {
		n, errX := io.ReadFull(x, bufX)
		m, errY := io.ReadFull(y, bufY)
		for _, err := range []error{errX, errY} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return "", err
			}
		}
		for i := range min(n, m) {
			if bufX[i] != bufY[i] {
				if first < 0 {
					first = offset + int64(i)
				}
				count++
			}
		}
		if n != m {
			if first < 0 {
				first = offset + int64(min(n, m))
			}
			return fmt.Sprintf("differs from byte %d on, and in length", first), nil
		}
		offset += int64(n)
		if errX != nil {
			break
		}
	}
	if first < 0 {
		return "", nil
	}
	return fmt.Sprintf("differs first at byte %d, in %d bytes of %d", first, count, offset), nil
}

// Package userfile opens the files that a person names on a command line. What
// is wrong with one is bad input, and is said before anything is done.
package userfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/auser/mvm/internal/tenant"
)

// Open opens a file to read.
func Open(path string) (*os.File, error) {
	f, err := open(path, os.O_RDONLY)
	if err != nil {
		return nil, &tenant.InputError{Msg: err.Error(), Hint: "name a file that can be read; - is standard input"}
	}
	return f, nil
}

// Create opens a file to write, without what was in it.
func Create(path string) (*os.File, error) {
	f, err := open(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, unwritable(err)
	}
	return f, nil
}

// Replaceable is the file that another is to take the place of where path is:
// what a link leads to. Whatever is no file stays what it is, as /dev/null.
func Replaceable(path string) (string, error) {
	if path == "" {
		return "", unwritable(errNoName)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(path); err == nil { // what it was to lead to may be a disk that is not mounted
			return "", &tenant.InputError{Msg: path + " is a link to what is not there", Hint: "name a file that can be written"}
		}
		_, err = os.Stat(filepath.Dir(path))
	case err != nil:
	case info.IsDir():
		err = isFolder(path)
	case !info.Mode().IsRegular():
		return "", &tenant.InputError{Msg: path + " is no regular file", Hint: "name a file; a pipe or device gets what goes to standard output"}
	default:
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", unwritable(err)
	}
	return path, nil
}

func open(path string, flags int) (*os.File, error) {
	if path == "" {
		return nil, errNoName
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() { // which Linux opens to read
		if err == nil {
			err = isFolder(path)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

var errNoName = errors.New("the name of a file is empty")

func isFolder(path string) error {
	return &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
}

func unwritable(err error) error {
	return &tenant.InputError{Msg: err.Error(), Hint: "name a file that can be written"}
}

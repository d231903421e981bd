package cli

import (
	"io"

	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/userfile"
)

// maxInput bounds what is read from people.
const maxInput = 16 << 20

// openInput opens a file that a person has named; - is standard input.
func (a *app) openInput(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(a.in), nil
	}
	return userfile.Open(path)
}

func (a *app) readInput(path string) (data []byte, err error) {
	in, err := a.openInput(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err = io.ReadAll(io.LimitReader(in, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = &tenant.InputError{Msg: "it is larger than 16 MiB", Hint: "no document of mvm's is: is it the right file?"}
	}
	return data, err
}

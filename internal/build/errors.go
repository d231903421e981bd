package build

import "errors"

// What an error is about, for errors.Is.
var (
	ErrInput = errors.New("bad input")                 // the flake, the ref or a value is wrong
	ErrHost  = errors.New("not possible on this host") // no usable container engine, git missing, disk full
	ErrBuild = errors.New("build failed")              // Nix ran and said no
)

// Error is a failure that comes with advice.
type Error struct {
	Kind error  // ErrInput, ErrHost or ErrBuild
	Msg  string // "cannot …"; Err's text follows it
	Hint string // what to do about it
	Log  string // with ErrBuild: the builder's own last lines
	Err  error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Msg + ": " + e.Err.Error()
	}
	return e.Msg
}

func (e *Error) Unwrap() []error {
	if e.Err != nil {
		return []error{e.Kind, e.Err}
	}
	return []error{e.Kind}
}

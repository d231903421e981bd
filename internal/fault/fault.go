// Package fault says what a failure means to whoever called: what kind it is,
// and so with which code the program ends, and what there is to do about it.
//
// Any error may give advice of its own; this package owns how both are found
// in a chain of errors. It prints nothing.
package fault

import (
	"errors"
	"fmt"
)

// Kind is what a failure is about, for errors.Is.
type Kind struct {
	text string
	code int
}

func (k *Kind) Error() string { return k.text }

// The kinds. A failure without one ends the program with code 1.
var (
	ErrInput    = &Kind{"bad input", 2}
	ErrNotFound = &Kind{"no such tenant", 3}
	ErrState    = &Kind{"wrong state", 4}               // busy, or not in a state for that
	ErrHost     = &Kind{"not possible on this host", 5} // doctor says why
)

// Interrupted is the exit code of a command that was interrupted.
const Interrupted = 130

// Exit is a command elsewhere, in a guest or a VM, that ended with a code. It has
// said itself what there is to say: the code is handed on, and nothing printed.
type Exit struct{ Code int }

func (e *Exit) Error() string { return fmt.Sprintf("the command ended with %d", e.Code) }

// Code is the exit code of a program that failed with err.
func Code(err error) int {
	if err == nil {
		return 0
	}
	var kind *Kind
	if errors.As(err, &kind) {
		return kind.code
	}
	return 1
}

// Hint is the advice of the outermost error that has some; "" where none has.
func Hint(err error) string {
	if advised, ok := err.(interface{ Advice() string }); ok && advised.Advice() != "" {
		return advised.Advice()
	}
	switch err := err.(type) {
	case interface{ Unwrap() error }:
		return Hint(err.Unwrap())
	case interface{ Unwrap() []error }:
		for _, part := range err.Unwrap() {
			if hint := Hint(part); hint != "" {
				return hint
			}
		}
	}
	return ""
}

// Error is a failure that comes with advice.
type Error struct {
	Kind error  // one of the kinds above or another for errors.Is; may be nil
	Msg  string // "cannot …"; Err's text follows it
	Err  error  // the cause; may be nil
	Hint string // what to do about it
	Log  string // the last words of a program that failed
}

func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Msg
	case e.Msg == "":
		return e.Err.Error()
	}
	return e.Msg + ": " + e.Err.Error()
}

// Unwrap gives errors.Is and errors.As the kind and the cause.
func (e *Error) Unwrap() []error {
	var parts []error
	for _, part := range []error{e.Kind, e.Err} {
		if part != nil {
			parts = append(parts, part)
		}
	}
	return parts
}

// Advice is the hint that goes with the error.
func (e *Error) Advice() string { return e.Hint }

package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestChains(t *testing.T) {
	plain := errors.New("the disk is full")
	for _, c := range []struct {
		err        error
		text, hint string
		code       int
	}{
		{err: nil, code: 0},
		{err: plain, text: "the disk is full", code: 1},
		{err: fmt.Errorf("%w: acme", ErrNotFound), text: "no such tenant: acme", code: 3},
		{err: &Error{Err: plain, Hint: "free some space"}, text: "the disk is full", hint: "free some space", code: 1},
		{err: &Error{Kind: ErrHost, Msg: "cannot build", Err: plain, Hint: "mvm gc"}, text: "cannot build: the disk is full", hint: "mvm gc", code: 5},
		{err: fmt.Errorf("cannot run acme: %w", &Error{Kind: ErrState, Msg: "it is paused", Hint: "resume it"}), text: "cannot run acme: it is paused", hint: "resume it", code: 4},
		// The outermost speaks.
		{err: &Error{Kind: ErrState, Msg: "outer", Err: &Error{Kind: ErrInput, Msg: "inner", Hint: "no"}, Hint: "yes"}, text: "outer: inner", hint: "yes", code: 4},
		{err: &Error{Msg: "outer", Err: &Error{Kind: ErrInput, Msg: "inner"}, Hint: "yes"}, text: "outer: inner", hint: "yes", code: 2},
		{err: errors.Join(plain, &Error{Kind: ErrInput, Msg: "bad", Hint: "good"}), text: "the disk is full\nbad", hint: "good", code: 2},
		// Who has nothing to say keeps nobody from saying it.
		{err: &Error{Msg: "outer", Err: fmt.Errorf("middle: %w", &Error{Kind: ErrInput, Msg: "inner", Hint: "yes"})}, text: "outer: middle: inner", hint: "yes", code: 2},
		{err: errors.Join(&Error{Msg: "one"}, &Error{Msg: "other", Hint: "yes"}), text: "one\nother", hint: "yes", code: 1},
	} {
		if c.err != nil && c.err.Error() != c.text {
			t.Errorf("got %q, want %q", c.err, c.text)
		}
		if code, hint := Code(c.err), Hint(c.err); code != c.code || hint != c.hint {
			t.Errorf("%v: code %d, hint %q", c.err, code, hint)
		}
	}
	if err := error(&Error{Kind: ErrHost, Err: io.EOF}); !errors.Is(err, ErrHost) || !errors.Is(err, io.EOF) || errors.Is(err, ErrInput) {
		t.Error("errors.Is does not see the kind and the cause")
	}
}

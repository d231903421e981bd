package cli

import (
	"context"
	"io"
)

// stream is one that people or other programs are at the other end of: it may
// keep a command waiting for ever. It fails as soon as the command is
// interrupted; what then still waits ends with the program.
type stream struct {
	ctx context.Context
	in  io.Reader
	out io.Writer
	buf [64 << 10]byte
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	part := s.buf[:min(len(p), len(s.buf))]
	n, err := s.try(func() (int, error) { return s.in.Read(part) })
	return copy(p, part[:n]), err
}

// Write implements io.Writer.
func (s *stream) Write(p []byte) (written int, err error) {
	for written < len(p) && err == nil {
		if s.ctx.Err() != nil { // the buffer may still be in use
			return written, s.ctx.Err()
		}
		part := s.buf[:copy(s.buf[:], p[written:])]
		var n int
		n, err = s.try(func() (int, error) { return s.out.Write(part) })
		written += n
	}
	return written, err
}

func (s *stream) try(do func() (int, error)) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := do()
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
}

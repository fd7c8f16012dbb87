package cli

import (
	"context"
	"errors"
	"io"
)

// errInterrupted is what a command that waits for standard input ends with.
var errInterrupted = errors.New("interrupted while waiting for standard input")

// Stdin is what a command reads as its standard input, until ctx ends: a read
// of a terminal, or of a pipe to which nobody writes, ends only by itself, and
// the signal that ends everything else has been taken. A read that is left
// behind keeps what comes next, so that in is nobody's any more then. It is for
// one reader at a time.
func Stdin(ctx context.Context, in io.Reader) io.Reader { return &stdin{ctx, in} }

type stdin struct {
	ctx context.Context //nolint:containedctx // io.Reader has no other place for it
	in  io.Reader
}

func (s *stdin) Read(p []byte) (int, error) {
	type read struct {
		text []byte
		err  error
	}
	done := make(chan read, 1)
	go func() {
		own := make([]byte, len(p)) // p is the caller's again when ctx has ended
		n, err := s.in.Read(own)
		done <- read{own[:n], err}
	}()
	select {
	case r := <-done:
		return copy(p, r.text), r.err
	case <-s.ctx.Done():
		return 0, errInterrupted
	}
}

package cli

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// A command that waits for standard input ends with the signal; what has come
// before is not lost by being read through this.
func TestStdinEndsWithTheCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if err := iotest.TestReader(Stdin(ctx, strings.NewReader("one\ntwo\n")), []byte("one\ntwo\n")); err != nil {
		t.Error(err)
	}
	silent, w := io.Pipe() // nobody writes to it, and nobody closes it
	defer w.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(Stdin(ctx, silent))
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, errInterrupted) || errors.Is(err, context.Canceled) {
		t.Errorf("%v: want an error that is no clean end", err)
	}
}

package poll

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, start, tries := errors.New("not yet"), time.Now(), 0
		err := Until(t.Context(), time.Second, func() error {
			if tries++; tries < 4 {
				return bad
			}
			return nil
		})
		if err != nil || tries != 4 || time.Since(start) != 3*every {
			t.Errorf("%v after %d tries and %s", err, tries, time.Since(start))
		}
		if err := Until(t.Context(), time.Second, func() error { return bad }); !errors.Is(err, bad) {
			t.Errorf("when time is up: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start = time.Now()
		if err := Until(ctx, time.Hour, func() error { return bad }); !errors.Is(err, bad) || time.Since(start) != 0 {
			t.Errorf("when nobody waits any more: %v after %s", err, time.Since(start))
		}
	})
}

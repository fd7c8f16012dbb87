package show

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

// TestWait: what is quick says nothing, what takes its time says so each second
// and leaves nothing behind, and no file is written to.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			takes time.Duration
			want  string
		}{
			{time.Second, ""},
			{3500 * time.Millisecond, "\r\x1b[Klooking… 2 s\r\x1b[Klooking… 3 s\r\x1b[K"},
		} {
			var b bytes.Buffer
			done := wait(&b, "looking")
			time.Sleep(c.takes)
			done()
			done()
			if b.String() != c.want {
				t.Errorf("%v: %q", c.takes, b.String())
			}
		}
	})
	var b bytes.Buffer
	Wait(&b, "x")()
	if b.Len() > 0 {
		t.Errorf("%q", b.String())
	}
}

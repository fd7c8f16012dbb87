package diary

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheSameEndIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b strings.Builder
		d := New(slog.New(slog.NewTextHandler(&b, nil)))
		refused := errors.New("it may not")
		for range 50 { // 100 s
			d.Ended(End{"a", "refused", refused.Error()}, time.Millisecond, refused)
			time.Sleep(2 * time.Second)
		}
		d.Ended(End{"b", "refused", refused.Error()}, time.Millisecond, refused)
		d.Ended(End{"a", "refused", "another"}, time.Millisecond, errors.New("another"))
		for range 2 {
			d.Ended(End{"a", "left", ""}, time.Hour, nil)
		}
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) != 6 {
			t.Fatalf("%d lines, want 6:\n%s", len(lines), b.String())
		}
		if !strings.HasSuffix(lines[1], "repeated=29") || strings.Count(b.String(), "repeated") != 1 {
			t.Errorf("the second line must say how often it came:\n%s", b.String())
		}
	})
}

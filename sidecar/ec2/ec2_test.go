package ec2

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"patchbay/internal/awsfake/imds"
)

// onInstance has the SDK ask a stand-in.
func onInstance(t *testing.T, i imds.Instance) *imds.Service {
	t.Helper()
	s := imds.New(i)
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", h.URL)
	return s
}

func TestWait(t *testing.T) {
	for want, i := range map[Instance]imds.Instance{
		{"i-0123456789abcdef0", "euw1-az2"}: {ID: "i-0123456789abcdef0", ZoneID: "euw1-az2"},
		{"i-01234567", ""}:                  {ID: "i-01234567"},
	} {
		onInstance(t, i)
		if got, err := Wait(t.Context(), slog.New(slog.DiscardHandler)); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
}

// TestRefused: what is no answer is asked for again until nobody waits any
// more, and the log says why.
func TestRefused(t *testing.T) {
	for name, x := range map[string]struct {
		id   string
		off  bool
		want string
	}{"switched off": {"i-0123456789abcdef0", true, "StatusCode: 403"}, "no instance": {"mi-1", false, "allowed: i-…"}} {
		t.Run(name, func(t *testing.T) {
			onInstance(t, imds.Instance{ID: x.id}).Disable(x.off)
			ctx, stop := context.WithCancelCause(t.Context())
			gone := errors.New("nobody waits")
			said := &firstLine{stop: func() { stop(gone) }}
			if _, err := Wait(ctx, slog.New(slog.NewTextHandler(said, nil))); !errors.Is(err, gone) {
				t.Error(err)
			}
			if !strings.Contains(said.text, "waiting for the instance's metadata") || !strings.Contains(said.text, x.want) {
				t.Errorf("%s", said.text)
			}
		})
	}
}

// firstLine ends the wait with the first thing that is logged.
type firstLine struct {
	text string
	stop func()
}

func (f *firstLine) Write(p []byte) (int, error) {
	f.text += string(p)
	f.stop()
	return len(p), nil
}

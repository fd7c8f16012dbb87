package live

import (
	"log/slog"
	"math"
	"strings"
	"testing"

	"patchbay/admin/api"
)

// TestAViewThatCantBeSent is said once, and once more when it happens again.
func TestAViewThatCantBeSent(t *testing.T) {
	var said strings.Builder
	p50 := math.NaN()
	w := New(func() api.Status { return api.Status{} }, func() api.Traffic { return api.Traffic{Edges: []api.Edge{{P50: p50}}} }, slog.New(slog.NewTextHandler(&said, nil)))
	c := make(chan []byte, 1)
	w.watchers[c] = true
	for range 3 {
		w.look()
	}
	if strings.Count(said.String(), "can't be shown") != 1 || len(c) != 0 {
		t.Errorf("%d views sent; said %q", len(c), &said)
	}
	p50 = 1
	if w.look(); len(c) != 1 {
		t.Error("nothing is sent when it is well again")
	}
}

package diagnose

import (
	"testing"

	"patchbay/admin/api"
)

// TestClient: people name a task or a workload; with several tasks they must
// say which.
func TestClient(t *testing.T) {
	st := &api.Status{Sidecars: []api.Sidecar{{Node: "demo/web/c0ffee"}, {Node: "demo/backend/b1"}, {Node: "demo/backend/b2"}}}
	for name, want := range map[string]string{
		"demo/web/c0ffee": "demo/web/c0ffee", "c0ffee": "demo/web/c0ffee", "web": "demo/web/c0ffee", "demo/web": "demo/web/c0ffee",
		"b1": "demo/backend/b1", "backend": "", "back": "", "": "",
	} {
		if got, ok := Client(st, name); got != want || ok != (want != "") {
			t.Errorf("%q is %q, %v; want %q", name, got, ok, want)
		}
	}
}

package registry

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestLocal: a browser can't write the mesh by a name of its own.
func TestLocal(t *testing.T) {
	h := Local(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for host, want := range map[string]int{
		"127.0.0.1:18003": 204, "localhost:18003": 204, "LOCALHOST": 204, "registry.localhost:1": 204, "[::1]:18003": 204, "[::1]": 204, "10.0.0.1": 204,
		"data-127.0.0.1:18003": 204, "data-localhost:18003": 204, "data-x.localhost": 204, "cloudmap:18003": 204, "data-cloudmap": 204,
		"evil.example:18003": 421, "evil.example": 421, "localhost.evil.example": 421, "data-evil.example": 421, "127.0.0.1.evil.example": 421, "": 421,
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
		r.Host = host
		if h.ServeHTTP(w, r); w.Code != want || want == 421 && !strings.Contains(w.Body.String(), "allowed on loopback") {
			t.Errorf("%q: %d %s", host, w.Code, w.Body)
		}
	}
}

package fault

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"patchbay/mesh"
)

func store() *mesh.Store {
	s := mesh.NewStore()
	s.SetServices("demo", []*mesh.Service{
		{Name: mesh.ServiceName{Namespace: "demo", DiscoveryName: "web"}, Protocol: mesh.HTTP},
		{Name: mesh.ServiceName{Namespace: "demo", DiscoveryName: "db"}, Protocol: mesh.TCP},
	})
	return s
}

// TestWhatIsRefused: before anything has happened, with what is allowed.
func TestWhatIsRefused(t *testing.T) {
	for query, want := range map[string]string{
		"kind=melt&for=1s":                                      `kind "melt"; allowed: delay, abort, drop, expire, throttle, restart`,
		"kind=abort&percent=0&abort=99&for=1h":                  `for "1h"; allowed: up to 10m0s`,
		"kind=abort&percent=500&abort=503&for=1s":               `percent "500"; allowed: 1 to 100`,
		"kind=delay&service=db.demo&percent=1&delay=1s&for=1s":  "db.demo speaks tcp",
		"kind=expire&service=web.demo&life=1m&for=30s":          `life "1m"; allowed: less than the 30s that the fault lasts`,
		"kind=expire&service=db.demo&life=1s&for=30s":           "db.demo has no TLS",
		"kind=drop&service=web.demo&endpoint=10.0.0.1:1&for=1s": `endpoint "10.0.0.1:1" is not one of web.demo`,
	} {
		w := httptest.NewRecorder()
		i := &Injector{Store: store(), Log: slog.New(slog.DiscardHandler)}
		i.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/?"+query, nil))
		if w.Code != http.StatusBadRequest || !strings.Contains(strings.ReplaceAll(w.Body.String(), `\"`, `"`), want) {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	(&Injector{Refused: "not here"}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
	if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "not here") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestThrottle: as many calls as the percentage says are refused in the
// registry's words, and the watch of changes is not.
func TestThrottle(t *testing.T) {
	i := &Injector{}
	made, err := i.begin(t.Context(), Wanted{Kind: Throttle, Percent: 30, For: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.begin(t.Context(), Wanted{Kind: Throttle}); err == nil {
		t.Error("throttled twice")
	}
	h := i.Registry(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	refused := func(target string) (n int) {
		for range 100 {
			w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
			r.Header.Set("X-Amz-Target", target)
			if h.ServeHTTP(w, r); w.Code == http.StatusBadRequest && strings.Contains(w.Body.String(), "RequestLimitExceeded") {
				n++
			}
		}
		return n
	}
	if n := refused("Route53AutoNaming_v20170314.DiscoverInstances"); n != 30 {
		t.Errorf("%d of 100 were refused, want 30", n)
	}
	if n := refused(""); n != 0 {
		t.Errorf("%d of another kind", n)
	}
	if made.undo(); refused("x") != 0 {
		t.Error("it goes on")
	}
}

func TestReport(t *testing.T) {
	before := map[string]map[string]uint64{"a": {requests: 10, failures: 1}, "b": {}, "idle": {requests: 5}, "again": {requests: 100}}
	after := map[string]map[string]uint64{"a": {requests: 30, failures: 4, aborted: 2, "cluster.web.demo.ssl.fail_verify_error": 3, "cluster.db.demo.ssl.fail_verify_san": 1}, "idle": {requests: 5}, "again": {requests: 7}}
	got := Report(before, after) // a, again, b
	if len(got) != 3 || got[0].Requests != 20 || got[0].Failed != 3 || got[0].Aborted != 2 || got[0].Distrusted != 4 {
		t.Errorf("%+v", got)
	}
	for _, r := range got {
		switch r.Node {
		case "again":
			if r.Requests != 7 {
				t.Errorf("%+v", r)
			}
		case "b":
			if !r.Lost {
				t.Errorf("%+v", r)
			}
		}
	}
}

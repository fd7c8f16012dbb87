package xds

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
)

// What is tried again, and how often, on a real Envoy.

// under is a service with a policy, whose endpoints take HTTP/2.
func under(t *testing.T, n, text string, addrs ...netip.AddrPort) *mesh.Service {
	t.Helper()
	s := aliased(n, freeAlias(t, n), time.Minute, addrs...)
	s.Policy = wants(t, text)
	return s
}

// application is an endpoint that takes HTTP/2 and does what answer does.
func application(t *testing.T, answer http.HandlerFunc) netip.AddrPort {
	t.Helper()
	lis, _ := listen(t)
	return answering(t, lis, answer)
}

// patient waits for answers that a test holds back.
var patient = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}

// codeOf is what a call of an alias is answered; 0: nothing.
func codeOf(client *http.Client, a mesh.Alias, path string) int {
	resp, err := client.Get("http://" + vip(a) + path) //nolint:noctx // the client has a limit
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// burst is how many requests come at once.
const burst = 20

// overloaded is an application that fails every request: those of a burst once
// all of it is there, and what is tried again when it is told to.
type overloaded struct {
	full, release chan struct{}

	mu   sync.Mutex
	seen int
}

func (o *overloaded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.seen++
	until := o.full
	switch {
	case o.seen == burst:
		close(o.full)
	case o.seen > burst:
		until = o.release
	}
	o.mu.Unlock()
	select {
	case <-until:
	case <-r.Context().Done():
	}
	w.WriteHeader(http.StatusServiceUnavailable)
}

// again is how many requests have been tried again; -1: the burst is not all there.
func (o *overloaded) again() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return max(o.seen-burst, -1)
}

// A backend that fails everything gets each request again, unless a budget, or
// a limit, bounds how many may be under way.
func TestRetriesWithinABudget(t *testing.T) {
	c := startControl(t, 0)
	rows := []struct {
		name, policy string
		least, most  int
	}{
		{"unbounded", `{"retries": {"max": 1}, "outlierDetection": {"failures": 0}}`, burst, burst},
		// Of what is under way at the moment, which shrinks with each request that is given up.
		{"quarter", `{"retries": {"max": 1, "budgetPercent": 25}, "outlierDetection": {"failures": 0}}`, 3, burst / 4},
		{"least", `{"retries": {"max": 1, "budgetPercent": 0}, "outlierDetection": {"failures": 0}}`, 3, 3},
		{"limit", `{"retries": {"max": 1}, "connectionLimits": {"maxRetries": 2}, "outlierDetection": {"failures": 0}}`, 2, 2},
		{"beside", `{"retries": {"max": 1, "budgetPercent": 0}, "connectionLimits": {"maxRetries": 1}, "outlierDetection": {"failures": 0}}`, 3, 3},
	}
	apps := map[string]*overloaded{}
	var services []*mesh.Service
	for _, r := range rows {
		apps[r.name] = &overloaded{full: make(chan struct{}), release: make(chan struct{})}
		services = append(services, under(t, r.name, r.policy, application(t, apps[r.name].ServeHTTP)))
	}
	c.store.SetServices("prod", services)
	caller := c.task(t, "prod/web/1", "")
	for i, r := range rows {
		app, answers := apps[r.name], make(chan int, burst)
		for range burst {
			go func() { answers <- codeOf(patient, services[i].Aliases[0], "/") }()
		}
		envoytest.Eventually(t, time.Minute, func() error { // each is given up, or waits for its second answer
			if again, answered := app.again(), len(answers); again < 0 || again+answered != burst {
				return fmt.Errorf("%s: %d are tried again, %d are answered", r.name, again, answered)
			}
			return nil
		})
		again := app.again()
		if again < r.least || again > r.most {
			t.Errorf("%s: of %d requests %d were tried again, want %d to %d", r.name, burst, again, r.least, r.most)
		}
		close(app.release)
		for range burst {
			if code := <-answers; code != http.StatusServiceUnavailable {
				t.Errorf("%s: a caller has %d", r.name, code)
			}
		}
		stats, cluster := caller.Stats(t), "cluster."+r.name+".prod.upstream_rq_"
		if app.again() != again || stats[cluster+"retry"] != float64(again) || stats[cluster+"retry_overflow"] != float64(burst-again) {
			t.Errorf("%s: tried again %d, then %d; Envoy counts %v, and %v above", r.name, again, app.again(), stats[cluster+"retry"], stats[cluster+"retry_overflow"])
		}
	}
}

func TestWhatIsTriedAgain(t *testing.T) {
	c := startControl(t, 0)
	rows := []struct {
		policy string
		path   string
		code   int
		calls  int64
	}{
		{`{"retries": {"on": ["500"]}}`, "/500", 500, 3},
		{`{"retries": {"on": ["500"]}}`, "/503", 503, 1},
		{`{"retries": {"on": ["gateway-error"]}}`, "/502", 502, 3},
		{`{}`, "/reset", 503, 1}, // the application may have seen it
		{`{"preset": "appmesh"}`, "/reset", 503, 3},
		{`{"preset": "envoy"}`, "/503", 503, 1},
		{`{"preset": "envoy", "retries": {"max": 1, "on": ["503"]}}`, "/503", 503, 2},
		{`{}`, "/unavailable", 200, 3},
		{`{"retries": {"on": ["cancelled"]}}`, "/unavailable", 200, 1},
		{`{"retries": {"max": 1, "perTry": "400ms", "on": ["reset"]}}`, "/hang", 504, 2},
		{`{"retries": {"max": 1, "perTry": "400ms"}}`, "/hang", 504, 1}, // it has reached the application
	}
	calls := make([]atomic.Int64, len(rows))
	var services []*mesh.Service
	for i, r := range rows {
		s := under(t, fmt.Sprintf("s%d", i), r.policy, application(t, func(w http.ResponseWriter, r *http.Request) {
			calls[i].Add(1)
			var code int
			switch r.URL.Path {
			case "/reset":
				panic(http.ErrAbortHandler)
			case "/hang":
				<-r.Context().Done()
			case "/unavailable":
				w.Header().Set("Content-Type", "application/grpc")
				w.Header().Set("Grpc-Status", "14")
			default:
				fmt.Sscanf(r.URL.Path, "/%d", &code)
				w.WriteHeader(code)
			}
		}))
		if r.path == "/unavailable" {
			s.Protocol = mesh.GRPC
		}
		services = append(services, s)
	}
	c.store.SetServices("prod", services)
	c.task(t, "prod/web/1", "")
	for i, r := range rows {
		if code := codeOf(patient, services[i].Aliases[0], r.path); code != r.code {
			t.Errorf("%s: %s is answered %d, want %d", r.policy, r.path, code, r.code)
		}
		eventually(t, func() error { // a try that was cut off may reach it later
			if n := calls[i].Load(); n < r.calls {
				return fmt.Errorf("%s: %s was asked for %d times, want %d", r.policy, r.path, n, r.calls)
			}
			return nil
		})
		if n := calls[i].Load(); n != r.calls {
			t.Errorf("%s: %s was asked for %d times, want %d", r.policy, r.path, n, r.calls)
		}
	}
}

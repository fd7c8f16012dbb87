//go:build guides

package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"
	"time"

	"patchbay/config"
	"patchbay/sidecar/status"
)

// application is what the guides about calls need of one.
type application struct {
	name   string
	broken bool // it answers /broken with an error, and is busy
	seen   int  // requests for /orders
	*shared
}

// shared is what the applications of a test know of one another.
type shared struct {
	sync.Mutex
	tried map[string]bool // requests for /flaky
	sick  map[string]bool // applications
	tries int             // of /overload
	full  chan struct{}   // closed when as many as overload are there
}

// overload is how many requests for /overload come at once.
const overload = 20

// overloaded holds a request until all of its kind are there, and those that
// come after them for a second: retries, which are under way meanwhile.
func (s *shared) overloaded(r *http.Request) {
	s.tries++
	until := s.full
	if s.tries == overload {
		close(s.full)
	}
	later := time.NewTimer(time.Second)
	defer later.Stop()
	var timer <-chan time.Time
	if s.tries > overload {
		until, timer = nil, later.C
	}
	s.Unlock()
	defer s.Lock()
	select {
	case <-until:
	case <-timer:
	case <-r.Context().Done():
	}
}

func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.Lock()
	defer a.Unlock()
	w.Header().Set("endpoint-load-metrics", map[bool]string{false: "TEXT cpu_utilization=0.04,rps_fractional=100", true: "TEXT cpu_utilization=0.96,rps_fractional=100"}[a.broken])
	switch path := r.URL.Path; {
	case path == "/slow":
		a.Unlock()
		<-r.Context().Done()
		a.Lock()
		return
	case path == "/flaky" && !a.tried[r.Header.Get("X-Request-Id")]:
		a.tried[r.Header.Get("X-Request-Id")] = true
		w.WriteHeader(http.StatusServiceUnavailable)
	case path == "/overload":
		a.overloaded(r)
		w.WriteHeader(http.StatusServiceUnavailable)
	case path == "/tries":
		fmt.Fprintln(w, a.tries, "tries")
		a.tries, a.full = 0, make(chan struct{})
		return
	case path == "/broken" && a.broken, path == "/healthz" && a.sick[a.name]:
		w.WriteHeader(http.StatusInternalServerError)
	case path == "/sick":
		a.sick[a.name] = true
		fmt.Fprintln(w, a.name, "is sick")
		return
	case path == "/well":
		clear(a.sick)
		fmt.Fprintln(w, "all are well")
		return
	case path == "/orders":
		a.seen++
	case path == "/traced":
		fmt.Fprintln(w, r.Header.Get("traceparent"))
		return
	case path == "/seen":
		fmt.Fprintln(w, "/orders:", a.seen > 0)
		return
	}
	fmt.Fprintln(w, a.name)
}

// calls is a guide on a frontend that calls two backends, next, and ledger,
// which is a tcp service without TLS.
func calls(t *testing.T, page string, tweak ...func(*config.Config)) *guide {
	p := startPlane(t, tweak...)
	g := p.guide(page, map[string]uint16{"8080": uint16(freePort(t))})
	all := &shared{tried: map[string]bool{}, sick: map[string]bool{}, full: make(chan struct{})}
	start := func(name string) uint16 {
		a := &application{name: name, broken: name == "backend-2", shared: all}
		s := httptest.NewServer(a)
		t.Cleanup(s.Close)
		return uint16(s.Listener.Addr().(*net.TCPAddr).Port)
	}
	joins := map[string]string{"frontend": p.joinDir("frontend"), "backend": p.joinDir("backend", "backend"), "next": p.joinDir("next", "next"), "ledger": p.joinDir("ledger", "ledger")}
	apps := map[string][]uint16{"backend": {start("backend-1"), start("backend-2")}, "next": {start("next")}, "ledger": {start("ledger")}}
	running := map[string][]*member{}
	tasks := 0
	task := func(workload, declaration string) *member {
		tasks++
		m := p.sidecar(joins[workload], fmt.Sprintf("t%d", tasks), declaration, "--drain-time", "1s")
		m.until(func(status.Report) error { return nil }) // it has read its environment
		return m
	}
	g.in = func(workload string) *member { return running[workload][0] }
	offer := func(workload string, port uint16) string {
		declaration := offering(t, workload, port, g.ports["8080"])
		if workload == "ledger" {
			declaration = regexp.MustCompile(`(?s),\s*"tls": .*?}}|, "appProtocol": "http"`).ReplaceAllString(declaration, "")
		}
		return declaration
	}
	reaches := func(service string, endpoints int) { // the frontend calls so many endpoints
		t.Helper()
		p.prints(exitDone, fmt.Sprintf(`endpoints +(%[1]d, all are called|\d of %[1]d are called|all are ejected)`, endpoints), "explain", "frontend", g.here("http://"+service+".demo:8080/"))
	}
	g.deploy = func(workload, policies string) {
		t.Helper()
		if workload == "" {
			t.Fatalf("no workload stands above\n%s", policies)
		}
		was := running[workload]
		if workload == "frontend" { // both Envoys would have the alias: this machine is one task
			for _, m := range was {
				if err := m.stop(); err != nil {
					t.Error(err)
				}
			}
			running[workload] = []*member{task(workload, deployed(t, clientOnly, policies))}
		} else {
			running[workload] = nil
		}
		for _, port := range apps[workload] {
			running[workload] = append(running[workload], task(workload, deployed(t, offer(workload, port), policies)))
		}
		for _, m := range running[workload] {
			m.until(serving)
		}
		if running["frontend"] == nil {
			return
		}
		if workload != "frontend" {
			reaches(workload, len(was)+len(running[workload]))
		}
		for _, m := range was {
			go m.stop() // the test waits for it at its end
		}
		for _, s := range []string{"backend", "next", "ledger"} {
			reaches(s, len(running[s]))
		}
	}
	for _, w := range []string{"ledger", "next", "backend", "frontend"} {
		g.deploy(w, `{"policies": {}}`)
	}
	return g
}

func TestPoliciesGuide(t *testing.T) { calls(t, "policies.md").run(22) }

func TestHealthGuide(t *testing.T) { calls(t, "health.md").run(12) }

//go:build guides

package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/config"
	"patchbay/controlplane"
	"patchbay/internal/envoytest"
	"patchbay/sidecar"
)

// guide is a page of docs/guides as the script of a test on a real mesh. Its
// blocks are carried out in their order:
//
//   - json is deployed: with new tasks of the workload whose name, and a colon,
//     stand above it.
//   - sh runs in bash: `patchbay` speaks to the mesh's control plane, `curl` is
//     in the task of the workload above it, or of the frontend. If text follows,
//     the commands run until they print its lines in their order, others between
//     them; "…" stands for anything. The ports are those of the mesh here.
type guide struct {
	p      *plane
	page   string
	ports  map[string]uint16 // of aliases, by those of the page
	deploy func(workload, policies string)
	in     func(workload string) *member
	bin    string // folder with patchbay
}

var guideStep = regexp.MustCompile("(?s)(?:(?:^|\n)([a-z-]+):\n\n)?```(json|sh)\n(.*?)```(?:\\s*```text\n(.*?)```)?")

func (g *guide) run(least int) {
	t := g.p.t
	t.Helper()
	text, err := os.ReadFile("../../docs/guides/" + g.page)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g.bin = t.TempDir()
	if err := os.Symlink(program, filepath.Join(g.bin, "patchbay")); err != nil {
		t.Fatal(err)
	}
	steps := guideStep.FindAllStringSubmatch(string(text), -1)
	if len(steps) < least {
		t.Fatalf("%d blocks", len(steps))
	}
	for _, s := range steps {
		if s[2] == "json" {
			if s[1] == "" {
				t.Fatalf("no workload stands above\n%s", s[3])
			}
			g.deploy(s[1], s[3])
			continue
		}
		g.shell(cmp.Or(s[1], "frontend"), g.here(s[3]), g.here(s[4]))
	}
}

// here is a text of the page with the ports of this mesh.
func (g *guide) here(text string) string {
	for there, here := range g.ports {
		text = strings.ReplaceAll(text, ":"+there, fmt.Sprintf(":%d", here))
	}
	return text
}

// shell runs commands until they print what the page shows.
func (g *guide) shell(workload, commands, shows string) {
	t := g.p.t
	t.Helper()
	m := g.in(workload)
	want := regexp.MustCompile(pageLines(shows))
	envoytest.Eventually(t, time.Minute, func() error {
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", commands)
		cmd.Dir = g.bin
		cmd.Env = append(os.Environ(), "PATH="+g.bin+":"+os.Getenv("PATH"), "PATCHBAY_ADMIN=unix:"+controlplane.AdminSocket(g.p.cfg.Data), "CURL_HOME="+g.names(m))
		out, err := cmd.CombinedOutput()
		if ended, is := errors.AsType[*exec.ExitError](err); is && ended.ExitCode() == exitProblems && shows != "" {
			err = nil // it has found something
		}
		if err == nil && !want.Match(out) {
			err = fmt.Errorf("it does not show\n%s", shows)
		}
		if err != nil {
			return fmt.Errorf("%s%w\n%s", commands, err, out)
		}
		return nil
	})
}

// names has curl resolve as the hosts file of a task does. It returns the folder
// of curl's configuration.
func (g *guide) names(m *member) string {
	var config strings.Builder
	hosts, err := os.ReadFile(m.hosts)
	if err != nil {
		g.p.t.Fatal(err)
	}
	for line := range strings.Lines(string(hosts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasSuffix(f[1], ".demo") {
			fmt.Fprintf(&config, "resolve = \"%s:%d:%s\"\n", f[1], g.ports["8080"], f[0])
		}
	}
	if err := os.WriteFile(filepath.Join(g.bin, ".curlrc"), []byte(config.String()), 0o600); err != nil {
		g.p.t.Fatal(err)
	}
	return g.bin
}

// pageLines match an output that has all lines of what is shown, in order.
func pageLines(shows string) string {
	var lines []string
	for l := range strings.Lines(shows) {
		if fields := strings.Fields(l); len(fields) > 0 {
			for i, w := range fields {
				fields[i] = strings.ReplaceAll(regexp.QuoteMeta(w), "…", ".*")
			}
			lines = append(lines, `^(?:.*\s)?`+strings.Join(fields, " +")+`(?:[ ,;].*)?\n`)
		}
	}
	return `(?m)` + strings.Join(lines, `(?:.*\n)*?`)
}

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
	g := &guide{p: p, page: page, ports: map[string]uint16{"8080": uint16(freePort(t))}}
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
		m.until(func(sidecar.Status) error { return nil }) // it has read its environment
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
	g.deploy = func(workload, policies string) {
		t.Helper()
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
			g.reaches(workload, len(was)+len(running[workload]))
		}
		for _, m := range was {
			go m.stop() // the test waits for it at its end
		}
		for _, s := range []string{"backend", "next", "ledger"} {
			g.reaches(s, len(running[s]))
		}
	}
	for _, w := range []string{"ledger", "next", "backend", "frontend"} {
		g.deploy(w, `{"policies": {}}`)
	}
	return g
}

// reaches waits until the frontend calls so many endpoints of a service.
func (g *guide) reaches(service string, endpoints int) {
	g.p.t.Helper()
	g.p.prints(exitDone, fmt.Sprintf(`endpoints +(%[1]d, all are called|\d of %[1]d are called|all are ejected)`, endpoints), "explain", "frontend", g.here("http://"+service+".demo:8080/"))
}

func TestPoliciesGuide(t *testing.T) { calls(t, "policies.md").run(22) }

func TestHealthGuide(t *testing.T) { calls(t, "health.md").run(12) }

package xds

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/bootstrap"
)

// What policies mean to calls, on real Envoys.

func wants(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p := &policy.Policy{}
	if err := json.Unmarshal([]byte(text), p); err != nil {
		t.Fatal(err)
	}
	if wrong := p.Problems(); wrong != nil {
		t.Fatal(wrong)
	}
	return p
}

// counting is an application that counts its requests and says its name, or
// what answer says.
func counting(t *testing.T, answer http.HandlerFunc) (port uint16, calls *atomic.Int64) {
	t.Helper()
	calls = &atomic.Int64{}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { calls.Add(1); answer(w, r) }))
	t.Cleanup(app.Close)
	return netip.MustParseAddrPort(app.Listener.Addr().String()).Port(), calls
}

func saying(word string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, word+" "+r.Host+r.URL.Path) }
}

func send(t *testing.T, method string, a mesh.Alias, path string, headers ...string) (code int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+vip(a)+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "api.prod"
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := oneCall.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestRoutesOfAPolicy(t *testing.T) {
	c := startControl(t, 0)
	var ports []bootstrap.Port
	var services []*mesh.Service
	calls := map[string]*atomic.Int64{}
	var host atomic.Value // of the last copy
	for _, name := range []string{"api", "v2", "shadow"} {
		app, n := counting(t, func(w http.ResponseWriter, r *http.Request) {
			if name == "shadow" {
				host.Store(r.Host)
			}
			saying(name)(w, r)
		})
		calls[name] = n
		ports = append(ports, offer(t, name, mesh.HTTP, app, ""))
		services = append(services, offered(mesh.HTTP, freeAlias(t, name), ports[len(ports)-1]))
	}
	api := services[0].Aliases[0]
	services[0].Policy = wants(t, `{"routes": [
		{"match": {"path": "/only"}, "to": [{"service": "v2", "weight": 1}], "rewrite": {"prefix": "/new", "host": "other.example"}},
		{"match": {"prefix": "/share"}, "to": [{"service": "v2", "weight": 20}, {"weight": 80}]},
		{"match": {"headers": {"x-beta": "yes"}, "methods": ["GET"]}, "to": [{"service": "v2", "weight": 1}]},
		{"match": {"prefix": "/cut"}, "rewrite": {"prefix": "/"}}, {"match": {"prefix": "/under/"}, "rewrite": {"prefix": "/v1"}},
		{"match": {"prefix": "/moved"}, "rewrite": {"prefix": "/v2/"}}, {"match": {"headers": {"x-beta": "base"}}, "rewrite": {"prefix": "/base"}},
		{"match": {"prefix": "/mirrored"}, "mirror": {"service": "shadow", "percent": 100}}]}`)
	c.store.SetServices("prod", services)
	c.task(t, "prod/backend/1", "", ports...)
	c.task(t, "prod/web/1", "")
	for _, want := range []struct{ method, path, beta, body string }{
		{"GET", "/", "", "api api.prod/"},
		{"GET", "/only", "", "v2 other.example/new"},
		{"GET", "/only/not", "", "api api.prod/only/not"},
		{"GET", "/sharehold", "", "api api.prod/sharehold"},
		{"GET", "/x", "yes", "v2 api.prod/x"},
		{"POST", "/x", "yes", "api api.prod/x"},
		{"GET", "/x", "no", "api api.prod/x"},
		{"GET", "/cut", "", "api api.prod/"},
		{"GET", "/cut/x/cut/y?cut=/cut/z", "", "api api.prod/x/cut/y"},
		{"GET", "/cutter", "", "api api.prod/cutter"},
		{"GET", "/under/x", "", "api api.prod/v1/x"},
		{"GET", "/moved", "", "api api.prod/v2"},
		{"GET", "/moved/x", "", "api api.prod/v2/x"},
		{"GET", "/x", "base", "api api.prod/base/x"},
		{"GET", "/mirrored", "", "api api.prod/mirrored"},
	} {
		if _, got := send(t, want.method, api, want.path, "x-beta", want.beta); got != want.body {
			t.Errorf("%s %s (beta %s): %q, want %q", want.method, want.path, want.beta, got, want.body)
		}
	}
	eventually(t, func() error {
		if n := calls["shadow"].Load(); n != 1 {
			return fmt.Errorf("the mirror has seen %d requests", n)
		}
		if got := host.Load(); got != "api.prod" {
			return fmt.Errorf("the mirror was asked for the host %v", got)
		}
		return nil
	})
	calls["v2"].Store(0)
	const all = 400
	for range all {
		send(t, "GET", api, "/share/x")
	}
	// 20 %: beyond five standard deviations (8 each) it is another share.
	if n := calls["v2"].Load(); n < 40 || n > 120 {
		t.Errorf("%d of %d requests went to v2, want about 80", n, all)
	}
}

func TestRetriesOfAPolicy(t *testing.T) {
	c := startControl(t, 0)
	app, calls := counting(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	port := offer(t, "api", mesh.HTTP, app, "")
	s := offered(mesh.HTTP, freeAlias(t, "api"), port)
	s.Policy = wants(t, `{"retries": {"max": 3, "ifMethodIs": ["GET", "PUT"]}, "outlierDetection": {"failures": 0},
		"routes": [{"match": {"path": "/once"}, "retries": {"max": 0}}]}`)
	c.store.SetServices("prod", []*mesh.Service{s})
	c.task(t, "prod/api/1", "", port)
	c.task(t, "prod/web/1", "")
	for _, want := range []struct {
		method, path string
		calls        int64
	}{{"GET", "/", 4}, {"PUT", "/", 4}, {"POST", "/", 1}, {"GET", "/once", 1}} {
		before := calls.Load()
		if code, _ := send(t, want.method, s.Aliases[0], want.path); code != http.StatusServiceUnavailable {
			t.Errorf("%s %s: %d", want.method, want.path, code)
		}
		if n := calls.Load() - before; n != want.calls {
			t.Errorf("%s %s: the application was asked %d times, want %d", want.method, want.path, n, want.calls)
		}
	}
}

func TestALimitOfTheServicesOwnSidecar(t *testing.T) {
	c := startControl(t, 0)
	app, calls := counting(t, saying("api"))
	port := offer(t, "api", mesh.HTTP, app, "")
	port.Policy = wants(t, `{"rateLimit": {"requests": 5, "per": "1h"}}`)
	s := offered(mesh.HTTP, freeAlias(t, "api"), port)
	c.store.SetServices("prod", []*mesh.Service{s})
	c.task(t, "prod/api/1", "", port)
	c.task(t, "prod/web/1", "")
	seen := map[int]int{}
	for range 9 {
		code, _ := send(t, "GET", s.Aliases[0], "/")
		seen[code]++
	}
	if seen[200] != 5 || seen[429] != 4 || calls.Load() != 5 {
		t.Errorf("%v, the application saw %d; want 5 of 9", seen, calls.Load())
	}
}

func TestAHashKeepsAUserAtOneEndpoint(t *testing.T) {
	c := startControl(t, 0)
	var ports []bootstrap.Port
	for i := range 4 {
		app, _ := counting(t, saying(fmt.Sprint(i)))
		port := offer(t, "api", mesh.HTTP, app, "")
		port.PortName = fmt.Sprintf("api-%d", i)
		ports = append(ports, port)
	}
	s := offered(mesh.HTTP, freeAlias(t, "api"), ports...)
	s.Policy = wants(t, `{"loadBalancing": {"algorithm": "ring_hash", "hashOn": "header:x-user"}}`)
	c.store.SetServices("prod", []*mesh.Service{s})
	c.task(t, "prod/api/1", "", ports...)
	c.task(t, "prod/web/1", "")
	places := map[string]bool{}
	for user := range 16 {
		first := ""
		for range 4 {
			_, body := send(t, "GET", s.Aliases[0], "/", "x-user", fmt.Sprint(user))
			place, _, _ := strings.Cut(body, " ")
			if first == "" {
				first = place
			}
			if place != first {
				t.Fatalf("user %d is at %s and at %s", user, first, place)
			}
		}
		places[first] = true
	}
	if len(places) < 2 {
		t.Errorf("16 users are all at %v", places)
	}
}

func TestACallerHasTheLastWord(t *testing.T) {
	c := startControl(t, 0)
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	app, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
	})
	port := offer(t, "api", mesh.HTTP, app, "")
	s := offered(mesh.HTTP, freeAlias(t, "api"), port)
	c.store.SetServices("prod", []*mesh.Service{s})
	c.task(t, "prod/api/1", "", port)
	c.policies = map[string]*policy.Policy{"api": wants(t, `{"timeout": {"perRequest": "200ms"}, "fault": {"abort": {"status": 418, "percent": 100}}, "routes": [{"match": {"prefix": "/"}}]}`)}
	faulty := c.task(t, "prod/web/1", "")
	if code, _ := send(t, "GET", s.Aliases[0], "/"); code != http.StatusTeapot {
		t.Errorf("with a fault: %d", code)
	}
	faulty.Stop()
	c.policies["api"].Fault = nil
	c.task(t, "prod/web/2", "")
	if code, _ := send(t, "GET", s.Aliases[0], "/slow"); code != http.StatusGatewayTimeout {
		t.Errorf("with a timeout of its own: %d", code)
	}
}

func TestAHealthCheckFindsADeadApplication(t *testing.T) {
	c := startControl(t, 0)
	var sick atomic.Bool
	var ports []bootstrap.Port
	for i := range 2 {
		app, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
			if i == 1 && sick.Load() && r.URL.Path == "/healthz" {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			fmt.Fprint(w, i)
		})
		port := offer(t, "api", mesh.HTTP, app, "")
		port.PortName = fmt.Sprintf("api-%d", i)
		ports = append(ports, port)
	}
	s := offered(mesh.HTTP, freeAlias(t, "api"), ports...)
	s.Policy = wants(t, `{"healthCheck": {"path": "/healthz", "interval": "1s", "healthyThreshold": 1, "unhealthyThreshold": 1}}`)
	c.store.SetServices("prod", []*mesh.Service{s})
	c.task(t, "prod/api/1", "", ports...)
	caller := c.task(t, "prod/web/1", "")
	healthy := func(want float64) func() error {
		return func() error {
			if n := caller.Stats(t)["cluster.api.prod.membership_healthy"]; n != want {
				return fmt.Errorf("%v endpoints are healthy, want %v", n, want)
			}
			return nil
		}
	}
	eventually(t, healthy(2))
	sick.Store(true)
	eventually(t, healthy(1))
	for range 10 {
		if _, body := send(t, "GET", s.Aliases[0], "/"); body != "0" {
			t.Fatalf("the sick endpoint answers %q", body)
		}
	}
	sick.Store(false)
	eventually(t, healthy(2))
}

package xds

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
)

// Which endpoint is called, by what policies say of it, on a real Envoy.

// members waits until an Envoy has so many endpoints of a service, healthy ones.
func members(t *testing.T, e *envoytest.Envoy, n string, healthy float64) {
	t.Helper()
	envoytest.Eventually(t, time.Minute, func() error {
		if got := e.Stats(t)["cluster."+n+".prod.membership_healthy"]; got != healthy {
			return fmt.Errorf("%s: %v endpoints are healthy, want %v", n, got, healthy)
		}
		return nil
	})
}

// uptime is since when an Envoy runs, by its own clock.
func uptime(t *testing.T, e *envoytest.Envoy) time.Duration {
	t.Helper()
	page, err := e.Get("/server_info")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`"uptime_current_epoch": "(\d+s)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatal(page)
	}
	d, err := time.ParseDuration(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A fresh endpoint has a small share at first, and all of its share when its
// window is over.
func TestAFreshEndpointStartsSlowly(t *testing.T) {
	const window = 2 * time.Second
	c := startControl(t, 0)
	old, other := backend(t, "old"), backend(t, "other")
	services := map[string]*mesh.Service{
		"round":  under(t, "round", `{"loadBalancing": {"algorithm": "round_robin", "slowStart": "2s"}}`, old),
		"least":  under(t, "least", `{"loadBalancing": {"algorithm": "least_request", "slowStart": "2s"}}`, old),
		"single": under(t, "single", `{"loadBalancing": {"slowStart": "1h"}}`, old),
		"even":   under(t, "even", `{"loadBalancing": {"slowStart": "1h"}}`, old, other),
		"told":   under(t, "told", `{"loadBalancing": {"slowStart": "2s"}}`, old, other),
	}
	told := func(h mesh.Health) {
		s := *services["told"]
		s.Endpoints = slices.Clone(s.Endpoints)
		s.Endpoints[1].Health = h
		services["told"] = &s
	}
	set := func() {
		var all []*mesh.Service
		for _, s := range services {
			all = append(all, s)
		}
		c.store.SetServices("prod", all)
	}
	set()
	e := c.task(t, "prod/web/1", "")
	start := uptime(t, e)

	// A window takes nothing from an endpoint that is alone, and nothing from
	// one of several that are fresh together.
	if got := shares(t, services["single"].Aliases[0], 10); got["old"] != 10 {
		t.Errorf("an endpoint alone: %v", got)
	}
	if got := shares(t, services["even"].Aliases[0], 20); got["old"] < 9 || got["old"] > 11 {
		t.Errorf("two that are equally fresh: %v", got)
	}
	envoytest.Eventually(t, time.Minute, func() error { // the first endpoints leave their window
		if up := uptime(t, e); up <= start+window {
			return fmt.Errorf("it runs for %v", up)
		}
		return nil
	})

	// What the registry says of an endpoint's health begins none.
	told(mesh.Unhealthy)
	set()
	members(t, e, "told", 1)
	told(mesh.Healthy)
	set()
	members(t, e, "told", 2)
	if got := shares(t, services["told"].Aliases[0], 20); got["other"] < 9 || got["other"] > 11 {
		t.Errorf("an endpoint that the registry calls healthy again: %v", got)
	}

	const calls = 24
	for n, s := range services {
		if len(s.Endpoints) > 1 || n == "single" {
			continue
		}
		for try := 0; ; try++ {
			fresh := *s
			fresh.Endpoints = append(fresh.Endpoints[:1:1], mesh.Endpoint{InstanceID: "fresh", Addr: backend(t, "fresh"), Weight: 1})
			services[n] = &fresh
			began := time.Now()
			set()
			members(t, e, n, 2)
			got := shares(t, s.Aliases[0], calls)
			if time.Since(began) > window/2 && try < 50 {
				continue // it may have most of its weight already: another one
			}
			// Half of its weight at most: a third of the calls.
			if got["fresh"] > calls/3+1 || got["fresh"] == 0 {
				t.Errorf("%s: at first %v", n, got)
			}
			break
		}
	}
	for _, n := range []string{"round", "least"} {
		envoytest.Eventually(t, time.Minute, func() error {
			if got := shares(t, services[n].Aliases[0], 2*calls); got["fresh"] < calls-calls/4 || got["old"] < calls/4 {
				return fmt.Errorf("%s: in the end %v", n, got)
			}
			return nil
		})
	}
}

// The endpoint with fewer requests under way is preferred, or chance decides.
func TestLeastRequestAndRandom(t *testing.T) {
	c := startControl(t, 0)
	release := make(chan struct{})
	named := func(says string) netip.AddrPort {
		return application(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				w.(http.Flusher).Flush()
				select {
				case <-release:
				case <-r.Context().Done():
				}
			}
			io.WriteString(w, says)
		})
	}
	a, b := named("a"), named("b")
	least := under(t, "least", `{"loadBalancing": {"algorithm": "least_request"}}`, a, b)
	random := under(t, "random", `{"loadBalancing": {"algorithm": "random"}}`, a, b)
	c.store.SetServices("prod", []*mesh.Service{least, random})
	c.task(t, "prod/web/1", "")
	resp, err := patient.Get("http://" + vip(least.Aliases[0]) + "/hold") //nolint:noctx // the client has a limit
	if err != nil {
		t.Fatal(err)
	}
	const n = 400
	got := shares(t, least.Aliases[0], n)
	close(release)
	busy, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	// Envoy draws two, and takes the one with less to do: the busy one only
	// where both are it.
	if !near(got[string(busy)], n, 0.25) {
		t.Errorf("%s is busy: %v", busy, got)
	}
	if got := shares(t, least.Aliases[0], n); !near(got["a"], n, 0.5) {
		t.Errorf("nobody is busy: %v", got)
	}
	alike := 0
	for last, i := "", 0; i < n; i++ {
		now, err := get(oneCall, random.Aliases[0])
		if err != nil {
			t.Fatal(err)
		}
		if now == last {
			alike++
		}
		last = now
	}
	if !near(alike, n-1, 0.5) {
		t.Errorf("by chance: %d of %d went where the last one did", alike, n)
	}
}

// What is hashed stays at its endpoint when others come, but for the share that
// the new one takes.
func TestAHashKeepsMostOfItWhenAnEndpointJoins(t *testing.T) {
	c := startControl(t, 0)
	var all []netip.AddrPort
	for i := range 5 {
		all = append(all, backend(t, fmt.Sprint(i)))
	}
	hash := func(n, on string, addrs ...netip.AddrPort) *mesh.Service {
		return under(t, n, fmt.Sprintf(`{"loadBalancing": {"algorithm": "ring_hash", "hashOn": %q}}`, on), addrs...)
	}
	user, cookie, source := hash("user", "header:x-user", all[:4]...), hash("cookie", "cookie:session", all[:4]...), hash("source", "source-ip", all[:4]...)
	set := func(of *mesh.Service) { c.store.SetServices("prod", []*mesh.Service{of, cookie, source}) }
	set(user)
	e := c.task(t, "prod/web/1", "")
	const users = 200
	at := func() (out [users]string) {
		for i := range out {
			_, out[i] = send(t, http.MethodGet, user.Aliases[0], "/", "x-user", fmt.Sprint(i))
		}
		return out
	}
	before := at()
	if again := at(); again != before {
		t.Error("users have moved and nothing has changed")
	}
	more := *user
	more.Endpoints = append(more.Endpoints[:4:4], mesh.Endpoint{InstanceID: "4", Addr: all[4], Weight: 1})
	set(&more)
	members(t, e, "user", 5)
	stayed, joined, after := 0, 0, at()
	for i := range after {
		if after[i] == before[i] {
			stayed++
		}
		if after[i] == "4" {
			joined++
		}
	}
	if stayed < users/2 || joined == 0 { // four of five, were the ring without end
		t.Errorf("of %d users %d stayed, and %d are at the new endpoint", users, stayed, joined)
	}
	if again := at(); again != after {
		t.Error("users have moved and nothing has changed")
	}
	set(user)
	members(t, e, "user", 4)
	if again := at(); again != before {
		t.Error("the endpoint has gone, and not all users are where they were")
	}

	ofAddresses, ofSessions := map[string]bool{}, map[string]bool{}
	for i := range 16 {
		ip := net.IPv4(127, 0, 3, byte(i+1))
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}).DialContext}}
		var seen []string
		for range 4 {
			who, err := get(client, source.Aliases[0])
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, who)
		}
		if strings.Count(strings.Join(seen, ""), seen[0]) != len(seen) {
			t.Errorf("%s is at %v", ip, seen)
		}
		ofAddresses[seen[0]] = true
		first := ""
		for range 4 {
			_, who := send(t, http.MethodGet, cookie.Aliases[0], "/", "Cookie", fmt.Sprintf("other=1; session=%d", i))
			if first == "" {
				first = who
			}
			if who != first {
				t.Errorf("session %d is at %s and at %s", i, first, who)
			}
		}
		ofSessions[first] = true
	}
	if len(ofAddresses) < 2 || len(ofSessions) < 2 {
		t.Errorf("16 addresses are at %v, 16 sessions at %v", ofAddresses, ofSessions)
	}
}

// With fewer endpoints healthy than the threshold says, all are called.
func TestThePanicThreshold(t *testing.T) {
	c := startControl(t, 0)
	var services []*mesh.Service
	rows := []struct {
		name, policy string
		all          bool
	}{{"half", `{}`, true}, {"never", `{"loadBalancing": {"panicThreshold": 0}}`, false}, {"less", `{"loadBalancing": {"panicThreshold": 30}}`, false}, {"more", `{"loadBalancing": {"panicThreshold": 40}}`, true}}
	up, down := backend(t, "healthy"), backend(t, "unhealthy")
	other := backend(t, "unhealthy")
	for _, r := range rows {
		s := under(t, r.name, r.policy, up, down, other)
		s.Endpoints[1].Health, s.Endpoints[2].Health = mesh.Unhealthy, mesh.Unhealthy
		services = append(services, s)
	}
	c.store.SetServices("prod", services)
	c.task(t, "prod/web/1", "")
	for i, r := range rows {
		const n = 30
		if got := shares(t, services[i].Aliases[0], n); got["healthy"] == n == r.all {
			t.Errorf("%s: %v; want all of them %v", r.policy, got, r.all)
		}
	}
}

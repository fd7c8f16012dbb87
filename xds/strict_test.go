package xds

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// What a strict task sees of the mesh is what it was at its start, but for
// endpoints and Service Connect's own settings.
func TestAStrictTaskHasTheNamesOfItsStart(t *testing.T) {
	c := startControl(t, 0)
	var calls [2]func() int64
	var ports [2]bootstrap.Port
	for i := range ports {
		app, n := counting(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/busy" {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			fmt.Fprint(w, i)
		})
		calls[i] = n.Load
		ports[i] = offer(t, "api", mesh.HTTP, app, "")
		ports[i].PortName = fmt.Sprintf("api-%d", i)
	}
	later := offer(t, "later", mesh.HTTP, backend(t, "later").Port(), "")
	api, added := freeAlias(t, "api.prod"), freeAlias(t, "later.prod")
	s := offered(mesh.HTTP, api, ports[0])
	s.Policy = wants(t, `{"retries": {"max": 0}}`)
	c.store.SetServices("prod", []*mesh.Service{s})
	c.task(t, "prod/backend/1", "", ports[0], ports[1], later)
	own := mesh.NumberVIPs([]string{"api.prod"})
	c.names = own
	task := c.task(t, "prod/web/1", "")
	mine := func(a mesh.Alias) mesh.Alias { a.VIP = own["api.prod"]; return a }
	if own["api.prod"] != netip.MustParseAddr("127.255.0.1") {
		t.Fatal(own)
	}
	if code, body := send(t, http.MethodGet, mine(api), "/"); code != http.StatusOK || body != "0" {
		t.Fatalf("%d %q", code, body)
	}

	// The service's word on retries is none of Service Connect's.
	before := calls[0]()
	send(t, http.MethodGet, mine(api), "/busy")
	if n := calls[0]() - before; n != 3 {
		t.Errorf("a 503 was asked for %d times, want 3", n)
	}

	// A service that comes later is not there for it, whatever is called.
	next := offered(mesh.HTTP, api, ports[1])
	c.store.SetServices("prod", []*mesh.Service{next, offered(mesh.HTTP, added, later)})
	eventually(t, func() error {
		if code, body := send(t, http.MethodGet, mine(api), "/"); code != http.StatusOK || body != "1" {
			return fmt.Errorf("the endpoints are the old ones: %d %q", code, body)
		}
		return nil
	})
	c.settled(t)
	if dump := task.ConfigDump(t); strings.Contains(dump, "later.prod") {
		t.Error("it is told of a service that came later")
	}
	if got, err := get(oneCall, mesh.Alias{VIP: netip.MustParseAddr("127.255.0.2"), Port: added.Port}); err == nil {
		t.Errorf("the next address answers %q", got)
	}

	// One that starts now has both, and shares what is the same.
	c.names = mesh.NumberVIPs([]string{"api.prod", "later.prod"})
	task.Stop()
	c.task(t, "prod/web/2", "")
	if got, err := get(oneCall, mesh.Alias{VIP: c.names["later.prod"], Port: added.Port}); err != nil || got != "later" {
		t.Errorf("%q, %v", got, err)
	}
}

// The rows of a strict task's calls, on one real Envoy whose services have
// policies against all of them.
func TestAStrictTaskCallsAsServiceConnect(t *testing.T) {
	c, ca := startControl(t, 0), testca.New(t)
	c.trust(ca)
	c.issue(t, ca, "sealed", "1")
	c.issue(t, ca, "forged", "1", "another.prod")
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	asked := map[string]*atomic.Int64{}
	app := func(n string) uint16 {
		port, calls := counting(t, func(w http.ResponseWriter, r *http.Request) {
			status, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
			switch {
			case r.URL.Path == "/slow":
				select {
				case <-hold:
				case <-r.Context().Done():
				}
			case err == nil:
				w.WriteHeader(status)
			}
			fmt.Fprint(w, n)
		})
		asked[n] = calls
		return port
	}
	against := wants(t, `{"preset": "envoy", "retries": {"max": 0}, "outlierDetection": {"failures": 0}, "timeout": {"perRequest": "0s"},
		"healthCheck": {"protocol": "tcp"}, "loadBalancing": {"algorithm": "ring_hash", "hashOn": "source-ip"}, "routes": [{"match": {"prefix": "/"}, "retries": {"max": 0}}]}`)
	var services []*mesh.Service
	var ports []bootstrap.Port
	var names []string
	add := func(p mesh.Protocol, n string, app uint16, issuer string, more ...bootstrap.Port) *mesh.Service {
		port := offer(t, n, p, app, issuer)
		s := offered(p, freeAlias(t, n+".prod"), append([]bootstrap.Port{port}, more...)...)
		s.Policy = against
		ports, services, names = append(ports, port), append(services, s), append(names, n+".prod")
		return s
	}
	short, brief := time.Second, 300*time.Millisecond
	add(mesh.HTTP, "api", app("api"), "", offer(t, "api", mesh.HTTP, 1, "")) // of two endpoints one is dead
	add(mesh.HTTP, "defaults", app("defaults"), "")
	add(mesh.TCP, "raw", tcpApp(t), "")
	add(mesh.HTTP, "slow", app("slow"), "").Timeouts.PerRequest = &brief
	add(mesh.TCP, "quiet", tcpApp(t), "").Timeouts.Idle = &short
	add(mesh.HTTP, "sealed", app("sealed"), "default")
	add(mesh.HTTP, "forged", app("forged"), "default")
	blue, green := backend(t, "blue").String(), backend(t, "green").String()
	moved := revised(t, add(mesh.HTTP, "moved", app("moved"), ""), 100, map[string]string{blue: "blue", green: "green"})
	services[len(services)-1] = moved
	zones := []string{"a", "b", "c", "a", "b", "c"}
	var all []netip.AddrPort
	for _, z := range zones {
		all = append(all, backend(t, z))
	}
	near5, near6 := freeAlias(t, "five.prod"), freeAlias(t, "six.prod")
	services = append(services, in(aliased("five", near5, time.Minute, all[:5]...), zones[:5]...), in(aliased("six", near6, time.Minute, all...), zones...), spread("a", "b", "c"))
	names = append(names, "five.prod", "six.prod")
	c.store.SetServices("prod", services)
	c.task(t, "prod/backend/1", "", ports...)

	own := mesh.NumberVIPs(names)
	at := map[string]mesh.Alias{}
	for _, s := range services {
		for _, a := range s.Aliases {
			a.VIP = own[a.DNSName]
			at[s.Name.DiscoveryName] = a
		}
	}
	e := c.inZone(t, "prod/web/1", "a", bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, Profile: mesh.Strict, Names: own,
		Ports: []bootstrap.Port{offer(t, "web", mesh.HTTP, 1, "")}})

	t.Run("a dead host is avoided after five failures", func(t *testing.T) {
		for range 40 {
			if err := says(at["api"], "api")(); err != nil {
				t.Fatal(err)
			}
		}
		stats := e.Stats(t)
		if out, failed := stats["cluster.api.prod.outlier_detection.ejections_enforced_consecutive_local_origin_failure"], stats["cluster.api.prod.upstream_cx_connect_fail"]; out != 1 || failed < 5 || failed > 6 {
			t.Errorf("%v hosts are out after %v failures", out, failed)
		}
	})
	t.Run("a 503 is tried three times, a 500 once", func(t *testing.T) {
		for status, want := range map[int]int64{503: 3, 500: 1} {
			before := asked["defaults"].Load()
			if code, _ := send(t, http.MethodGet, at["defaults"], fmt.Sprintf("/%d", status)); code != status || asked["defaults"].Load()-before != want {
				t.Errorf("%d: the caller has %d after %d tries", status, code, asked["defaults"].Load()-before)
			}
		}
	})
	t.Run("timeouts", func(t *testing.T) {
		if code, _ := send(t, http.MethodGet, at["slow"], "/slow"); code != http.StatusGatewayTimeout {
			t.Errorf("beyond perRequestTimeoutSeconds: %d", code)
		}
		conn, err := net.Dial("tcp", vip(at["quiet"]))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // a TCP connection has deadlines
		if got, err := io.ReadAll(conn); string(got) != "welcome\n" || err != nil {
			t.Errorf("beyond idleTimeoutSeconds: %q, %v", got, err)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		if err := says(at["sealed"], "sealed")(); err != nil || e.Stats(t)["cluster.sealed.prod.ssl.handshake"] == 0 {
			t.Errorf("%v", err)
		}
		if code, _ := send(t, http.MethodGet, at["forged"], "/"); code != http.StatusServiceUnavailable || asked["forged"].Load() != 0 {
			t.Errorf("a certificate of another name: %d", code)
		}
	})
	t.Run("weights and test traffic", func(t *testing.T) {
		const n = 400
		if got := shares(t, at["moved"], n); !near(got["green"], n, 0.1) || got["blue"]+got["green"] != n {
			t.Errorf("of 10 %%: %v", got)
		}
		if _, got := send(t, http.MethodGet, at["moved"], "/", "x-amzn-ecs-blue-green-test", "1"); got != "green" {
			t.Errorf("test traffic reaches %s", got)
		}
	})
	t.Run("zones", func(t *testing.T) {
		eventually(t, func() error {
			page, err := e.Get("/clusters")
			if n := strings.Count(page, "local_cluster::192.0.2."); err == nil && n < 3 {
				err = fmt.Errorf("local_cluster has %d lines", n)
			}
			return err
		})
		const n = 300
		if got := shares(t, at["five"], n); !near(got["a"], n, 0.4) || !near(got["c"], n, 0.2) {
			t.Errorf("5 endpoints in 3 zones: %v", got)
		}
		if got := shares(t, at["six"], n); got["a"] != n {
			t.Errorf("6 endpoints in 3 zones: %v", got)
		}
	})
	t.Run("defaults", func(t *testing.T) { hasDefaults(t, e, at) })
	c.stop()
	if err := says(at["defaults"], "defaults")(); err != nil {
		t.Errorf("without the control plane: %v", err)
	}
}

// hasDefaults holds what the Envoy says of itself against what Service Connect
// documents of services that set nothing.
func hasDefaults(t *testing.T, e *envoytest.Envoy, at map[string]mesh.Alias) {
	t.Helper()
	part := func(kind, name string) string {
		page, err := e.Get("/config_dump?resource=" + kind + "&name_regex=" + url.QueryEscape("^"+regexp.QuoteMeta(name)+"$"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(page), "")
	}
	for what, c := range map[string]struct {
		in    string
		wants []string
	}{
		"a request":        {part("dynamic_route_configs", "egress-"+strings.ReplaceAll(vip(at["defaults"]), ":", "-")), []string{`"timeout":"15s"`, `"idle_timeout":"300s"`, `"num_retries":2`, `previous_hosts`}},
		"a tcp connection": {part("dynamic_listeners", "egress-"+strings.ReplaceAll(vip(at["raw"]), ":", "-")), []string{`"idle_timeout":"3600s"`, `"max_connect_attempts":3`}},
		"a cluster": {part("dynamic_active_clusters", "defaults.prod"), []string{
			`"interval":"30s"`, `"base_ejection_time":"30s"`, `"max_ejection_time":"300s"`, `"consecutive_local_origin_failure":5`, `"max_ejection_percent":100`,
			`"connect_timeout":"2s"`, `"max_connections":2147483647`, `"max_pending_requests":2147483647`, `"max_requests":2147483647`, `"max_retries":2147483647`}},
	} {
		for _, want := range c.wants {
			if !strings.Contains(c.in, want) {
				t.Errorf("%s lacks %s: %s", what, want, c.in)
			}
		}
		for _, foreign := range []string{"health_checks", "ring_hash", "healthy_panic_threshold"} { // Envoy's own panic threshold is 50 %
			if strings.Contains(c.in, foreign) {
				t.Errorf("%s has %s: %s", what, foreign, c.in)
			}
		}
	}
}

package xds

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
)

// zonedTask is a task of web in a zone, which calls too: its own listener is on
// another port than any alias.
func (c *control) zonedTask(t *testing.T, zone string) *envoytest.Envoy {
	t.Helper()
	return c.inZone(t, "prod/web/1", zone, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, Ports: []bootstrap.Port{offer(t, "web", mesh.HTTP, 1, "")}})
}

func (c *control) inZone(t *testing.T, id, zone string, meta bootstrap.NodeMeta) *envoytest.Envoy {
	t.Helper()
	admin := filepath.Join(t.TempDir(), "admin.sock")
	b, err := bootstrap.Config{NodeID: id, NodeCluster: filepath.Dir(id), Zone: zone, AdminSocket: admin, Meta: meta,
		XDS: []bootstrap.HostPort{{Host: "127.0.0.1", Port: c.port}}}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	e := envoytest.Start(t, b, admin, "")
	e.Ready(t)
	return e
}

// spread is web, with one task in each of the zones.
func spread(zones ...string) *mesh.Service {
	s := &mesh.Service{Name: name("web"), Protocol: mesh.HTTP}
	for i, z := range zones {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 15010)
		s.Endpoints = append(s.Endpoints, mesh.Endpoint{InstanceID: a.String(), Addr: a, Zone: z, Weight: 1})
	}
	return s
}

// in puts the endpoints of a service into zones, in their order.
func in(s *mesh.Service, zones ...string) *mesh.Service {
	for i := range s.Endpoints {
		s.Endpoints[i].Zone = zones[i]
	}
	return s
}

// shares counts who answers n calls.
func shares(t *testing.T, a mesh.Alias, n int) map[string]int {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	out := map[string]int{}
	for range n {
		who, err := get(client, a)
		if err != nil {
			t.Fatal(err)
		}
		out[who]++
	}
	return out
}

// near reports whether a count is within five standard deviations of a share of
// all.
func near(got, all int, share float64) bool {
	return math.Abs(float64(got)-float64(all)*share) <= 5*math.Sqrt(float64(all)*share*(1-share))+1
}

// Service Connect's rule since July 2026, on a real Envoy: the caller's own zone
// first, from twice as many endpoints as zones on.
func TestEnvoyPrefersItsOwnZone(t *testing.T) {
	c := startControl(t, 0)
	api := freeAlias(t, "api")
	var all []netip.AddrPort
	zones := []string{"a", "b", "c", "a", "b", "c"}
	for _, z := range zones {
		all = append(all, backend(t, z))
	}
	service := func(n int) *mesh.Service { return in(aliased("api", api, time.Minute, all[:n]...), zones[:n]...) }
	c.store.SetServices("prod", []*mesh.Service{service(5), spread("a", "b", "c")})
	e := c.zonedTask(t, "a")
	local := func(hosts int) func() error {
		return func() error {
			page, err := e.Get("/clusters")
			if n := strings.Count(page, "local_cluster::192.0.2."); err == nil && n < hosts {
				err = fmt.Errorf("local_cluster has %d lines", n)
			}
			return err
		}
	}
	eventually(t, local(3))
	c.settled(t)
	const n = 300
	if got := shares(t, api, n); !near(got["a"], n, 0.4) || !near(got["b"], n, 0.4) || !near(got["c"], n, 0.2) {
		t.Errorf("5 endpoints in 3 zones: %v; want an even share for each endpoint", got)
	}
	if e.Stats(t)["cluster.api.prod.lb_zone_cluster_too_small"] == 0 {
		t.Error("Envoy does not say that the cluster is too small")
	}
	c.store.SetServices("prod", []*mesh.Service{service(6), spread("a", "b", "c")})
	eventually(t, says6(e))
	if got := shares(t, api, n); got["a"] != n {
		t.Errorf("6 endpoints in 3 zones: %v; want all in zone a", got)
	}
	// Half of the callers are in a zone with a third of the endpoints: two
	// thirds of their requests stay.
	c.store.SetServices("prod", []*mesh.Service{service(6), spread("a", "a", "b", "c")})
	eventually(t, local(4))
	c.settled(t)
	if got := shares(t, api, n); !near(got["a"], n, 2./3) {
		t.Errorf("with half of the callers in zone a: %v; want two thirds there", got)
	}
	off := service(6)
	off.Policy = wants(t, `{"loadBalancing": {"zoneAware": false}}`)
	c.store.SetServices("prod", []*mesh.Service{off, spread("a", "b", "c")})
	eventually(t, func() error {
		page, err := e.Get("/config_dump?resource=dynamic_active_clusters")
		if err == nil && !strings.Contains(page, `"routing_enabled": {}`) {
			err = fmt.Errorf("the cluster is not replaced")
		}
		return err
	})
	if got := shares(t, api, n); !near(got["a"], n, 1./3) || !near(got["b"], n, 1./3) {
		t.Errorf("switched off: %v; want an even share for each zone", got)
	}
}

func says6(e *envoytest.Envoy) func() error {
	return func() error {
		stats, err := e.Get("/stats?filter=cluster.api.prod.membership_healthy")
		if err == nil && !strings.Contains(stats, ": 6") {
			err = fmt.Errorf("%s", stats)
		}
		return err
	}
}

// Tasks that offer nothing are told how their like are spread, by who is
// connected.
func TestEnvoysThatOfferNothingKnowTheirCrowd(t *testing.T) {
	c := startControl(t, 0)
	api := freeAlias(t, "api")
	zones := []string{"a", "b", "c", "a", "b", "c"}
	var all []netip.AddrPort
	for _, z := range zones {
		all = append(all, backend(t, z))
	}
	c.store.SetServices("prod", []*mesh.Service{in(aliased("api", api, time.Minute, all...), zones...)})
	e := c.inZone(t, "prod/web/1", "a", bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind})
	const n = 200
	// All that is known is in zone a: two thirds of the calls must leave it.
	if got := shares(t, api, n); !near(got["a"], n, 1./3) {
		t.Errorf("alone: %v; want an even share for each zone", got)
	}
	for i, z := range []string{"b", "c"} { // with other ports than the first: they share its network
		c.inZone(t, fmt.Sprintf("prod/web/%d", i+2), z, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, ContainerPorts: []uint16{api.Port}})
	}
	eventually(t, func() error {
		page, err := e.Get("/clusters")
		for i := range 3 {
			if host := fmt.Sprintf("local_cluster::240.0.%d.0:1::", i); err == nil && !strings.Contains(page, host) {
				err = fmt.Errorf("no %s", host)
			}
		}
		return err
	})
	c.settled(t)
	if got := shares(t, api, n); got["a"] != n {
		t.Errorf("with one in each zone: %v; want all in zone a", got)
	}
}

// What is told of a crowd is its proportions.
func TestPartsOfACrowd(t *testing.T) {
	for want, c := range map[string]crowd{
		"map[]": {}, "map[a:1 b:2]": {"a": 1, "b": 2}, "map[a:8 b:8 c:8]": {"a": 1000, "b": 1001, "c": 1002}, "map[a:24 b:1]": {"a": 9999, "b": 1},
	} {
		if got := fmt.Sprint(c.parts()); got != want {
			t.Errorf("%v: %s, want %s", map[string]int(c), got, want)
		}
	}
}

// A task whose zone is not known calls evenly, and asks for nothing more.
func TestEnvoyWithoutAZoneCallsEvenly(t *testing.T) {
	c := startControl(t, 0)
	api := freeAlias(t, "api")
	zones := []string{"a", "a", "b", "b"}
	var all []netip.AddrPort
	for _, z := range zones {
		all = append(all, backend(t, z))
	}
	c.store.SetServices("prod", []*mesh.Service{in(aliased("api", api, time.Minute, all...), zones...), spread("a", "b")})
	e := c.zonedTask(t, "")
	const n = 200
	if got := shares(t, api, n); !near(got["a"], n, 0.5) {
		t.Errorf("%v; want an even share", got)
	}
	if page, err := e.Get("/clusters"); err != nil || strings.Contains(page, "local_cluster") {
		t.Errorf("it has a local_cluster, %v", err)
	}
}

// A change of a service is one message for its callers, and one for its own
// tasks, whoever shares their view.
func TestOwnTasksShareAView(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(service("api", 1, "10.0.0.1:80"), service("web", 2, "10.0.0.2:80"))
		callers := map[string]*sidecar{}
		for _, id := range []string{"api", "web"} {
			callers[id] = w.connect(t, caller{id: "prod/" + id + "/1", offers: []string{id}, zone: "a",
				ports: []bootstrap.Port{{PortName: id, DiscoveryName: id, Protocol: mesh.HTTP, AppPort: 80, ListenerPort: 15010}}})
			callers[id].subscribe(delta.EndpointType, "local/"+id+".prod")
		}
		if views := len(w.pusher.views); views != 1 {
			t.Errorf("%d views; want one", views)
		}
		time.Sleep(time.Second)
		for _, s := range callers {
			s.came()
		}
		w.set(service("api", 1, "10.0.0.1:80", "10.0.0.3:80"), service("web", 2, "10.0.0.2:80"))
		if got := callers["api"].came(); len(got) != 2 {
			t.Errorf("a task of api was told %q; want its endpoints, and those of its own kind", got)
		}
		if got := callers["web"].came(); len(got) != 1 {
			t.Errorf("a task of web was told %q; want the endpoints of api", got)
		}
	})
}

package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/xds/delta"
	"patchbay/xds/translate"
	"patchbay/xds/views"
)

// history is a registry in which anything may happen, in an order that its
// seed fixes. It remembers what it has shown, so that a client's state can be
// found in its past.
type history struct {
	t        *testing.T
	rng      *rand.Rand
	ca       []*testca.CA
	aliases  []mesh.Alias
	size     int // endpoints of a large service
	services map[string]*mesh.Service
	bundle   *mesh.Bundle
	count    int
	past     map[string][]string // by cluster, and by zone of a cluster: the sets of hosts, oldest first
	byZone   bool                // zones of a cluster change one after the other
	poisoned map[string]bool     // clusters whose newest endpoints are rejected
}

func newHistory(t *testing.T, seed uint64, size int, aliases []mesh.Alias, byZone bool) *history {
	h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 2)), ca: []*testca.CA{testca.New(t), testca.New(t)}, aliases: aliases, size: size, byZone: byZone,
		services: map[string]*mesh.Service{}, past: map[string][]string{}, poisoned: map[string]bool{}}
	h.bundle = &mesh.Bundle{Issuer: "default", RootsPEM: h.ca[0].RootPEM}
	for range 3 {
		h.endpoints(h.pick())
	}
	return h
}

// store publishes the registry.
func (h *history) store(s *mesh.Store) {
	s.SetBundle(h.bundle)
	var all []*mesh.Service
	now := map[string]string{}
	for n, v := range h.services {
		all = append(all, v)
		for key, hosts := range h.parts(n+".prod", hostsOf(v)) {
			now[key] = strings.Join(hosts, ",")
		}
	}
	for key := range h.past {
		if _, there := now[key]; !there {
			now[key] = "" // what is gone has no hosts
		}
	}
	for key, set := range now {
		if p := h.past[key]; len(p) == 0 || p[len(p)-1] != set {
			h.past[key] = append(p, set)
		}
	}
	s.SetServices("prod", all)
}

// zoneOf is the zone of an address, which never changes.
func zoneOf(addr netip.AddrPort) string { return fmt.Sprint("z", addr.Addr().As4()[3]%2) }

// parts are the sets of hosts that change in one step.
func (h *history) parts(cluster string, hosts []string) map[string][]string {
	if !h.byZone {
		return map[string][]string{cluster: hosts}
	}
	out := map[string][]string{cluster + " z0": {}, cluster + " z1": {}}
	for _, host := range hosts {
		addr, _, _ := strings.Cut(host, " ")
		key := cluster + " " + zoneOf(netip.MustParseAddrPort(addr))
		out[key] = append(out[key], host)
	}
	return out
}

// hostsOf is what a caller of the service routes to, sorted.
func hostsOf(s *mesh.Service) []string {
	all := []string{}
	for _, e := range s.Endpoints {
		host := e.Addr.String()
		if e.Health == mesh.Unhealthy {
			host += " UNHEALTHY"
		}
		all = append(all, host)
	}
	slices.Sort(all)
	return all
}

// pick chooses one of the services that may exist.
func (h *history) pick() string { return h.aliases[h.rng.IntN(len(h.aliases))].DNSName }

// change is one step of the registry; it returns what it did.
func (h *history) change() string {
	n := h.pick()
	s := h.services[n]
	h.count++
	switch what := h.rng.IntN(20); {
	case s == nil || what < 10:
		return h.endpoints(n)
	case what < 12:
		delete(h.services, n)
		delete(h.poisoned, n+".prod")
		return "remove " + n
	case what < 15:
		idle := time.Minute + time.Duration(h.count)*time.Second
		h.edit(n, func(s *mesh.Service) { s.Timeouts.Idle = &idle })
		return "update the cluster of " + n
	case what < 16:
		h.edit(n, func(s *mesh.Service) {
			if s.TLS == nil {
				s.TLS = &mesh.ServiceTLS{Issuer: "default"}
			} else {
				s.TLS = nil
			}
			for i := range s.Endpoints {
				s.Endpoints[i].TLS = s.TLS != nil
			}
		})
		return "switch TLS of " + n
	case what < 17:
		roots := [][]byte{h.ca[0].RootPEM, h.ca[1].RootPEM, slices.Concat(h.ca[0].RootPEM, h.ca[1].RootPEM)}
		h.bundle = &mesh.Bundle{Issuer: "default", RootsPEM: roots[h.rng.IntN(3)]}
		return "change the trust"
	default:
		h.edit(n, func(s *mesh.Service) { s.Endpoints = nil })
		return "empty " + n
	}
}

// edit replaces a service by a changed copy.
func (h *history) edit(n string, f func(*mesh.Service)) {
	s := &mesh.Service{Name: name(n), Protocol: mesh.HTTP}
	if old := h.services[n]; old != nil {
		*s = *old
		s.Endpoints = slices.Clone(old.Endpoints)
	}
	for _, a := range h.aliases {
		if a.DNSName == n {
			s.Aliases = []mesh.Alias{a}
		}
	}
	f(s)
	slices.SortFunc(s.Endpoints, mesh.Endpoint.Compare)
	if !s.Equal(h.services[n]) {
		delete(h.poisoned, n+".prod")
	}
	h.services[n] = s
}

// endpoints adds, removes or changes some endpoints; now and then very many.
func (h *history) endpoints(n string) string {
	h.edit(n, func(s *mesh.Service) {
		many := 1 + h.rng.IntN(3)
		if h.rng.IntN(8) == 0 {
			many = h.size
		}
		for range many {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 9, byte(h.rng.IntN(4)), byte(1 + h.rng.IntN(250))}), 80)
			i := slices.IndexFunc(s.Endpoints, func(e mesh.Endpoint) bool { return e.Addr == addr })
			switch {
			case i < 0:
				s.Endpoints = append(s.Endpoints, mesh.Endpoint{InstanceID: addr.String(), Addr: addr, Zone: zoneOf(addr), Weight: 1 + uint32(h.rng.IntN(3)), TLS: s.TLS != nil})
			case h.rng.IntN(2) == 0:
				s.Endpoints = slices.Delete(s.Endpoints, i, i+1)
			default:
				s.Endpoints[i].Health = mesh.Health(h.rng.IntN(3))
			}
		}
		for len(s.Endpoints) > h.size {
			i := h.rng.IntN(len(s.Endpoints))
			s.Endpoints = slices.Delete(s.Endpoints, i, i+1)
		}
	})
	return "endpoints of " + n
}

// poison has the view show endpoints that an Envoy rejects, behind the
// validation's back.
func (h *history) poison(cache *delta.Cache, view string) string {
	names := slices.Sorted(maps.Keys(h.services))
	if len(names) == 0 {
		return "nothing"
	}
	cluster := names[h.rng.IntN(len(names))] + ".prod"
	h.poisoned[cluster] = true
	cache.Apply(view, []*delta.Entry{poisoned(h.t, cluster)}, nil, nil)
	return "poison " + cluster
}

// seen checks that hosts are a state that the registry had, and not before
// that of the last time, which at remembers.
func (h *history) seen(cluster string, hosts []string, at map[string]int) error {
	for key, part := range h.parts(cluster, hosts) {
		set, past := strings.Join(part, ","), h.past[key]
		i := slices.Index(past[min(at[key], len(past)):], set)
		if i < 0 {
			return fmt.Errorf("%s routes to [%s]; since its last state the registry had %q", key, set, past[min(at[key], len(past)):])
		}
		at[key] += i
	}
	return nil
}

// expected are the versions of everything that a sidecar of the view holds, by
// resource, without what is rejected.
func (h *history) expected(v views.View) map[delta.Ref]string {
	out := map[delta.Ref]string{}
	add := func(all []translate.Resource) {
		for _, r := range all {
			out[delta.Ref{TypeURL: r.TypeURL, Name: r.Name}] = encoded(h.t, r).Version()
		}
	}
	for _, s := range h.services {
		add(translate.Service(v, s))
	}
	for _, r := range translate.Shared(v, map[string]*mesh.Bundle{"default": h.bundle}) {
		if r.TypeURL == delta.ListenerType {
			add([]translate.Resource{r})
		}
	}
	for cluster := range h.poisoned {
		delete(out, delta.Ref{TypeURL: delta.EndpointType, Name: cluster})
	}
	return out
}

package envoymodel

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// cluster is one in use, and the next version of it while that is warming.
type cluster struct {
	active, warming *instance
	cached          *endpointv3.ClusterLoadAssignment // the newest: used when a wait was in vain
}

// instance is one version of a cluster, with subscriptions of its own.
type instance struct {
	config   []byte
	static   bool
	secrets  []string
	deadline time.Time

	assigned    bool // an assignment came, or its absence was said
	inline      map[string]bool
	collections map[string]*collection
	frozen      bool // until the next assignment
	hosts       map[string]bool
}

// collection is a LEDS subscription.
type collection struct {
	answered bool
	members  map[string]string // host by member name
}

func (e *Envoy) takeClusters(r *discoveryv3.DeltaDiscoveryResponse) (problem string) {
	var add, drop, secrets []string
	for _, x := range r.GetResources() {
		m := &clusterv3.Cluster{}
		if p := e.refuse(Cluster, x); p != "" || x.GetResource().UnmarshalTo(m) != nil {
			problem = "Error adding/updating cluster(s) " + x.GetName() + ": " + p
			continue // the others are applied
		}
		e.types[Cluster].versions[x.GetName()] = x.GetVersion()
		c := e.clusters[x.GetName()]
		if c == nil {
			c = &cluster{}
			e.clusters[x.GetName()] = c
		}
		newest := c.active
		if c.warming != nil {
			newest = c.warming
		}
		if newest != nil && sameBytes(newest.config, x.GetResource().GetValue()) {
			continue
		}
		i := &instance{config: x.GetResource().GetValue(), secrets: trusts(m), deadline: time.Now().Add(Patience), collections: map[string]*collection{}}
		c.warming = i
		if i.static = m.GetType() != clusterv3.Cluster_EDS; !i.static {
			add = append(add, x.GetName()) // only if it is new: nothing is asked again
		}
		secrets = append(secrets, i.secrets...)
	}
	for _, name := range r.GetRemovedResources() {
		delete(e.types[Cluster].versions, name)
		delete(e.clusters, name)
		drop = append(drop, name)
	}
	e.watch(Endpoint, add, drop)
	e.watch(Secret, secrets, nil)
	e.watchMembers()
	e.progressAll()
	return problem
}

// trusts are the secrets that a cluster needs.
func trusts(m *clusterv3.Cluster) []string {
	u := &tlsv3.UpstreamTlsContext{}
	if s := m.GetTransportSocket(); s == nil || s.GetTypedConfig().UnmarshalTo(u) != nil {
		return nil
	}
	if n := u.GetCommonTlsContext().GetCombinedValidationContext().GetValidationContextSdsSecretConfig().GetName(); n != "" {
		return []string{n}
	}
	return nil
}

func (e *Envoy) takeEndpoints(r *discoveryv3.DeltaDiscoveryResponse) string {
	for _, x := range r.GetResources() {
		m := &endpointv3.ClusterLoadAssignment{}
		if p := e.refuse(Endpoint, x); p != "" || x.GetResource().UnmarshalTo(m) != nil {
			// What came before it is applied; everything that waits, waits no more.
			e.loseCollections(x.GetName())
			e.endWaiting(func(i *instance) bool { return !i.assigned })
			return fmt.Sprintf("%s: %s", x.GetName(), p)
		}
		c := e.clusters[x.GetName()]
		if c == nil {
			continue // nobody asked
		}
		e.types[Endpoint].versions[x.GetName()] = x.GetVersion()
		c.cached = m
		for _, i := range []*instance{c.warming, c.active} {
			if i != nil && !i.static {
				i.assign(m)
			}
		}
	}
	for _, name := range r.GetRemovedResources() {
		delete(e.types[Endpoint].versions, name)
		// The hosts of a cluster in use stay; one that is warming has none.
		if c := e.clusters[name]; c != nil && c.warming != nil && !c.warming.static && !c.warming.assigned {
			c.warming.assign(nil)
		}
	}
	e.watchMembers()
	e.progressAll()
	return ""
}

// loseCollections is what a rejected assignment does to its cluster: it drops
// its collections, and keeps their hosts as they are.
func (e *Envoy) loseCollections(name string) {
	c := e.clusters[name]
	if c == nil {
		return
	}
	for _, i := range []*instance{c.warming, c.active} {
		if i != nil && len(i.collections) > 0 {
			i.collections, i.frozen = map[string]*collection{}, true
		}
	}
	e.watchMembers()
}

// assign gives an instance its endpoints. A collection that it has already
// stays; a new one is waited for.
func (i *instance) assign(m *endpointv3.ClusterLoadAssignment) {
	i.assigned, i.frozen = true, false
	i.inline = map[string]bool{}
	next := map[string]*collection{}
	for _, l := range m.GetEndpoints() {
		for _, end := range l.GetLbEndpoints() {
			i.inline[host(end)] = true
		}
		if name := l.GetLedsClusterLocalityConfig().GetLedsCollectionName(); name != "" {
			if next[name] = i.collections[name]; next[name] == nil {
				next[name] = &collection{members: map[string]string{}}
				i.deadline = time.Now().Add(Patience)
			}
		}
	}
	i.collections = next
}

func host(end *endpointv3.LbEndpoint) string {
	a := end.GetEndpoint().GetAddress().GetSocketAddress()
	s := fmt.Sprintf("%s:%d", a.GetAddress(), a.GetPortValue())
	if h := end.GetHealthStatus(); h == corev3.HealthStatus_UNHEALTHY {
		s += " " + h.String()
	}
	return s
}

func (e *Envoy) takeMembers(r *discoveryv3.DeltaDiscoveryResponse) string {
	hosts := map[string]string{}
	for _, x := range r.GetResources() {
		m := &endpointv3.LbEndpoint{}
		if p := e.refuse(Member, x); p != "" || x.GetResource().UnmarshalTo(m) != nil {
			e.endWaiting(func(i *instance) bool { return i.assigned && !i.answered() })
			return x.GetName() + ": " + p
		}
		hosts[x.GetName()] = host(m)
	}
	for _, c := range e.clusters {
		for _, i := range []*instance{c.warming, c.active} {
			if i == nil {
				continue
			}
			for glob, all := range i.collections {
				for name, h := range hosts {
					if parent(name) == glob {
						all.members[name], all.answered = h, true
					}
				}
				for _, name := range r.GetRemovedResources() {
					if name == glob || parent(name) == glob {
						delete(all.members, name)
						all.answered = true
					}
				}
			}
		}
	}
	e.progressAll()
	return ""
}

func parent(name string) string { return name[:strings.LastIndex(name, "/")+1] + "*" }

// watchMembers brings the subscription of collections to what instances use.
func (e *Envoy) watchMembers() {
	used := map[string]bool{}
	for _, c := range e.clusters {
		for _, i := range []*instance{c.warming, c.active} {
			if i != nil {
				for glob := range i.collections {
					used[glob] = true
				}
			}
		}
	}
	var drop []string
	for glob := range e.types[Member].want {
		if !used[glob] {
			drop = append(drop, glob)
		}
	}
	slices.Sort(drop)
	e.watch(Member, slices.Sorted(maps.Keys(used)), drop)
}

// endWaiting is the harm that a rejection does to others: what waits is taken
// as empty.
func (e *Envoy) endWaiting(which func(*instance) bool) {
	for _, c := range e.clusters {
		for _, i := range []*instance{c.warming, c.active} {
			if i != nil && !i.static && which(i) {
				e.Harmed++
				i.giveUp(nil)
			}
		}
	}
	e.progressAll()
}

// giveUp takes what is missing as empty, or the cached assignment.
func (i *instance) giveUp(cached *endpointv3.ClusterLoadAssignment) {
	if !i.assigned {
		i.assign(cached)
	}
	i.secrets = nil
	for _, c := range i.collections {
		c.answered = true
	}
}

func (i *instance) answered() bool {
	for _, c := range i.collections {
		if !c.answered {
			return false
		}
	}
	return true
}

func (i *instance) ready(e *Envoy) bool {
	for _, name := range i.secrets {
		if !e.secrets[name] {
			return false
		}
	}
	return i.static || i.assigned && i.answered()
}

func (i *instance) list() []string { return slices.Sorted(maps.Keys(i.hosts)) }

func (e *Envoy) progressAll() {
	for name, c := range e.clusters {
		e.progress(name, c)
	}
}

// progress puts what is complete to use: hosts change when all that was waited
// for is there, and a warm version takes the place of the old.
func (e *Envoy) progress(name string, c *cluster) {
	before := []string(nil)
	if c.active != nil {
		before = c.active.list()
	}
	for _, i := range []*instance{c.warming, c.active} {
		if i == nil || i.static || !i.assigned || !i.answered() || i.frozen {
			continue
		}
		i.hosts = maps.Clone(i.inline)
		for _, all := range i.collections {
			for _, h := range all.members {
				i.hosts[h] = true
			}
		}
	}
	fresh := c.active == nil
	if c.warming != nil && c.warming.ready(e) {
		c.active, c.warming = c.warming, nil
		e.watchMembers()
	}
	if c.active == nil || c.active.static {
		return
	}
	if now := c.active.list(); e.Routes != nil && (fresh || !slices.Equal(before, now)) {
		e.Routes(name, now)
	}
}

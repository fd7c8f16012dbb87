// Package sample is a mesh of any size in the form of the operator's
// interface, for tests and benchmarks of what shows one.
//
// It owns made-up shops: the same for the same size. It must not be linked into
// the product. Start reading at [New].
package sample

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"patchbay/admin/api"
)

// Mesh is a made-up mesh that can be changed while it is looked at. It is safe
// for concurrent use.
type Mesh struct {
	mu       sync.Mutex
	started  time.Time
	rng      *rand.Rand
	services []api.Service
	sidecars []api.Sidecar
	edges    []api.Edge
}

var (
	areas = strings.Fields("checkout cart catalog search payment billing shipping stock account auth profile review pricing promo mail push fraud ledger report media")
	roles = strings.Fields("gateway api store cache worker")
	small = strings.Fields("frontend backend database")
)

// New makes a mesh of so many services, which have so many tasks between them,
// and a client, web, besides. Up to a hundred services have names of their own.
func New(services, tasks int) *Mesh {
	m := &Mesh{started: time.Now().Add(-26 * time.Hour), rng: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // the same each time
	for i := range services {
		m.services = append(m.services, m.service(i, services))
	}
	for i := range tasks {
		m.sidecars = append(m.sidecars, m.sidecar(i, i%services))
		m.services[i%services].Endpoints["HEALTHY"]++
		m.services[i%services].Encrypted++
	}
	m.sidecars = append(m.sidecars, m.sidecar(0, -1))
	m.wire()
	return m
}

func name(i, services int) string {
	if services <= len(small) {
		return small[i]
	}
	per := min(len(roles), 1+services/len(areas))
	if services > len(areas)*len(roles) {
		return fmt.Sprintf("%s-%s-%d", areas[i%len(areas)], roles[i/len(areas)%len(roles)], i)
	}
	return areas[i/per%len(areas)] + "-" + roles[i%per]
}

func (m *Mesh) service(i, services int) api.Service {
	n := name(i, services)
	s := api.Service{
		Name: n + ".shop", Protocol: "http", Created: m.started, Source: "live", AgeSeconds: new(1.5),
		Aliases:   []api.Alias{{DNSName: n + ".shop", Port: 8080, VIP: fmt.Sprintf("127.130.%d.%d", i/250, 1+i%250)}},
		Endpoints: map[string]int{}, Zones: map[string]int{"use1-az1": 1, "use1-az2": 1},
		TLS: &api.TLS{Issuer: "default", Names: []string{n + ".shop"}, Serial: fmt.Sprintf("%032x", i+1), IssuedAt: m.started, NotAfter: time.Now().Add(17 * time.Hour)},
	}
	if strings.HasSuffix(n, "store") || n == "database" {
		s.Protocol = "tcp"
	}
	return s
}

func (m *Mesh) sidecar(i, service int) api.Sidecar {
	workload, s := "web", api.Sidecar{Ports: []api.PortStatus{}}
	if service >= 0 {
		of := m.services[service].Name
		workload = strings.TrimSuffix(of, ".shop")
		s.Ports = append(s.Ports, api.PortStatus{PortName: "main", Service: of, Health: "HEALTHY", Registered: true})
		s.LeafNotAfter = time.Now().Add(17 * time.Hour)
	}
	s.Node = fmt.Sprintf("shop/%s/%s-%d", workload, workload, i)
	s.Address, s.Zone, s.Replica = fmt.Sprintf("10.1.%d.%d", i/250, 1+i%250), fmt.Sprintf("use1-az%d", 1+i%2), "control-1"
	s.Agent = &api.Agent{Version: "1.0.0", EnvoyVersion: "1.40.0", Wiring: "redirect", Since: m.started, LastHealth: time.Now(), EnvoyReady: true, NamesCurrent: true}
	s.Stream = &api.Stream{View: "shop/redirect/", Opened: m.started}
	for _, t := range []string{"cds", "eds", "sds", "lds", "rds"} {
		s.Stream.Types = append(s.Stream.Types, api.TypeSync{Type: t, State: api.Synced, Resources: len(m.services), LastAck: time.Now().Add(-time.Minute), LastAckSeconds: 0.004})
	}
	return s
}

// wire says who calls whom: the web calls gateways, or what comes first, these
// what is behind them, and an api its neighbours'.
func (m *Mesh) wire() {
	find := func(n string) bool {
		return slices.ContainsFunc(m.services, func(s api.Service) bool { return s.Name == n+".shop" })
	}
	call := func(from, to string, rate float64) {
		if from == to || !find(to) {
			return
		}
		e := api.Edge{
			Workload: "shop/" + from, Service: to + ".shop", RequestRate: rate, P50: 1 + 4*m.rng.Float64(), Requests: uint64(rate * 3600), Connections: 40,
			Encryption: api.Encryption{TLS13: 40},
		}
		e.P99 = e.P50 * (3 + 4*m.rng.Float64())
		m.edges = append(m.edges, e)
	}
	for _, s := range m.services {
		n := strings.TrimSuffix(s.Name, ".shop")
		area, role, _ := strings.Cut(n, "-")
		switch role {
		case "gateway":
			call("web", n, 20+200*m.rng.Float64())
			call(n, area+"-api", 20+100*m.rng.Float64())
		case "api", "worker":
			call(n, area+"-store", 200*m.rng.Float64())
			call(n, area+"-cache", 300*m.rng.Float64())
			if role == "api" {
				call(n, areas[m.rng.IntN(len(areas))]+"-api", 10*m.rng.Float64())
			}
		}
	}
	call("web", "frontend", 120)
	call("frontend", "backend", 80)
	call("backend", "database", 45)
}

// Change changes a service with its callers' traffic, under the mesh's lock.
func (m *Mesh) Change(service string, f func(*api.Service, []*api.Edge)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var edges []*api.Edge
	for i := range m.edges {
		if m.edges[i].Service == service {
			edges = append(edges, &m.edges[i])
		}
	}
	for i := range m.services {
		if m.services[i].Name == service {
			f(&m.services[i], edges)
		}
	}
}

// ChangeSidecar changes the i-th sidecar, under the mesh's lock.
func (m *Mesh) ChangeSidecar(i int, f func(*api.Sidecar)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.sidecars[i])
}

// Status is the mesh now.
func (m *Mesh) Status() api.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	st := api.Status{
		Version: "1.0.0", Replica: "control-1", At: now, Started: m.started, Ready: true, Reasons: []string{},
		Services: make([]api.Service, len(m.services)), Sidecars: make([]api.Sidecar, len(m.sidecars)), SurvivableSeconds: new(61200.0),
		Namespaces: []api.Namespace{{Name: "shop", Synced: true, Listed: now}}, Issuers: []api.Issuer{{Name: "default", Roots: 1, LastSeen: now}},
	}
	copy(st.Services, m.services)
	for i := range st.Services { // the map is what changes
		all := map[string]int{}
		maps.Copy(all, st.Services[i].Endpoints)
		st.Services[i].Endpoints = all
	}
	copy(st.Sidecars, m.sidecars)
	for i := range st.Sidecars {
		if a := st.Sidecars[i].Agent; a != nil {
			one := *a
			one.LastHealth = now
			st.Sidecars[i].Agent = &one
		}
	}
	return st
}

// Traffic is what is called now; rates move a little.
func (m *Mesh) Traffic() api.Traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := api.Traffic{Edges: slices.Clone(m.edges), Ingresses: []api.Ingress{}}
	for i := range out.Edges {
		out.Edges[i].RequestRate *= 0.9 + 0.2*m.rng.Float64()
	}
	return out
}

// Detail is what GET /api/v1/service answers.
func (m *Mesh) Detail(service string) (api.ServiceDetail, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.services, func(s api.Service) bool { return s.Name == service })
	if i < 0 {
		return api.ServiceDetail{}, false
	}
	d := api.ServiceDetail{Service: m.services[i], Instances: []api.Endpoint{}}
	for _, s := range m.sidecars {
		if len(s.Ports) > 0 && s.Ports[0].Service == service {
			d.Instances = append(d.Instances, api.Endpoint{InstanceID: s.Node[strings.LastIndex(s.Node, "/")+1:], Address: s.Address + ":15010", Zone: s.Zone, Health: s.Ports[0].Health, Weight: 1, TLS: true})
		}
	}
	return d, true
}

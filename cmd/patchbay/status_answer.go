package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"patchbay/admin"
	"patchbay/admin/api"
	"patchbay/agents"
	"patchbay/discovery"
	"patchbay/internal/health"
	"patchbay/mesh"
	"patchbay/pki"
	"patchbay/shift"
	"patchbay/xds/delta"
)

// replica names this process among others.
func replica() string {
	name, err := os.Hostname()
	if err != nil {
		return "patchbay"
	}
	return name
}

// statusAnswer joins what the parts say of themselves.
func (c *control) statusAnswer() api.Status {
	now := time.Now()
	reasons := health.Texts(c.notReady())
	certificates := c.rotator.Status()
	st := api.Status{
		Version: version(), Replica: c.replica, At: now, Started: c.started, Ready: len(reasons) == 0, Reasons: reasons,
		Namespaces: []api.Namespace{}, Issuers: []api.Issuer{},
	}
	if left, ok := c.rotator.Survivable(now); ok {
		st.SurvivableSeconds = new(left.Seconds())
	}
	for _, i := range certificates.Issuers {
		st.Issuers = append(st.Issuers, api.Issuer{Name: i.Name, Roots: i.Roots, LastSeen: i.LastSeen, LastError: i.LastError, ErrorAt: i.ErrorAt})
	}
	leaves := map[string]pki.ServiceStatus{}
	for _, l := range certificates.Services {
		leaves[l.Service.String()] = l
	}
	snap := c.store.Snapshot()
	for _, w := range snap.Callers {
		caller := api.Caller{Workload: w.String(), SPIFFEID: w.SPIFFEID(c.cfg.TrustDomain)}
		if l, ok := leaves[w.CertificateName().String()]; ok {
			caller.TLS = *tlsAnswer(l)
		}
		st.Callers = append(st.Callers, caller)
	}
	namespaces := c.namespaces()
	for _, n := range namespaces {
		st.Namespaces = append(st.Namespaces, api.Namespace{
			Name: n.Name, Synced: n.Synced, Waiting: n.Waiting, Stale: n.Stale, Listed: n.Listed, Error: n.Error, Rejected: n.Rejected,
		})
	}
	st.Services = append(servicesAnswer(namespaces, snap, leaves), externalAnswer(snap)...)
	c.expiring(st.Services)
	shares(st.Services, c.trafficAnswer().Edges)
	st.Sidecars = c.sidecarsAnswer(leaves)
	c.registryAnswer(&st)
	return st
}

// shares says of services with TLS how much of their traffic was encrypted.
func shares(services []api.Service, edges []api.Edge) {
	all := map[string]api.Encryption{}
	for _, e := range edges {
		sum := all[e.Service]
		sum.TLS13, sum.TLSOlder, sum.Plain = sum.TLS13+e.TLS13, sum.TLSOlder+e.TLSOlder, sum.Plain+e.Plain
		all[e.Service] = sum
	}
	for i, s := range services {
		if share, some := all[s.Name].Share(); some && s.TLS != nil {
			services[i].EncryptedShare = new(share)
		}
	}
}

func servicesAnswer(namespaces []discovery.NamespaceStatus, snap *mesh.Snapshot, leaves map[string]pki.ServiceStatus) []api.Service {
	out := []api.Service{}
	for _, n := range namespaces {
		for _, s := range n.Services {
			one := api.Service{
				Name: s.Name.String(), ARN: s.ARN, Source: s.Source, Held: s.Held, Skipped: s.Skipped, Strangers: s.Strangers, Error: s.Error, Settings: s.Settings,
				Aliases: []api.Alias{}, Endpoints: map[string]int{},
			}
			if s.Age >= 0 {
				one.AgeSeconds = new(s.Age.Seconds())
			}
			if v := snap.Service(s.Name); v != nil {
				describe(&one, v)
			}
			for _, x := range n.Conflicts {
				if x.Loser == s.Name {
					one.Aliases = append(one.Aliases, api.Alias{DNSName: x.Alias.DNSName, Port: x.Alias.Port, LostTo: x.Winner.String()})
				}
			}
			if l, ok := leaves[one.Name]; ok {
				t := tlsAnswer(l)
				t.Only = one.TLS != nil && one.TLS.Only
				one.TLS = t
			}
			out = append(out, one)
		}
	}
	return out
}

// describe adds what sidecars are told of a service.
func describe(one *api.Service, v *mesh.Service) {
	one.Protocol, one.Foreign, one.Created = string(v.Protocol), v.Foreign, v.Created
	for _, a := range v.Aliases {
		alias := api.Alias{DNSName: a.DNSName, Port: a.Port}
		if a.VIP.IsValid() {
			alias.VIP = a.VIP.String()
		}
		one.Aliases = append(one.Aliases, alias)
	}
	for _, e := range v.Endpoints {
		one.Endpoints[e.Health.String()]++
		if e.Zone != "" {
			tally(&one.Zones, e.Zone, 1)
		}
		if e.Revision != "" {
			tally(&one.Revisions, e.Revision, int(e.Weight))
		}
		if e.TLS {
			one.Encrypted++
		}
	}
	one.Deployment = shift.Divided(v)
	if v.Policy != nil {
		one.MutualTLS, one.Authorization = v.Policy.MutualTLS, v.Policy.Authorization
	}
	if v.TLS != nil {
		one.TLS = &api.TLS{Issuer: v.TLS.Issuer, Only: v.TLS.Only, Names: []string{}}
	}
}

func tally(m *map[string]int, key string, n int) {
	if *m == nil {
		*m = map[string]int{}
	}
	(*m)[key] += n
}

func tlsAnswer(l pki.ServiceStatus) *api.TLS {
	return &api.TLS{
		Issuer: l.Issuer, Names: list(l.Names), Serial: l.Serial, IssuedAt: l.IssuedAt, NotAfter: l.NotAfter, NextTry: l.NextTry,
		Failures: l.Failures, LastError: l.LastError, Alarm: l.Alarm, NotStored: l.NotStored,
	}
}

// sidecarsAnswer is a row for each node that has an agent or an Envoy here,
// sorted by node.
func (c *control) sidecarsAnswer(leaves map[string]pki.ServiceStatus) []api.Sidecar {
	rows := map[string]*api.Sidecar{}
	row := func(node string) *api.Sidecar {
		if rows[node] == nil {
			rows[node] = &api.Sidecar{Node: node, Replica: c.replica, Ports: []api.PortStatus{}}
		}
		return rows[node]
	}
	for _, a := range c.agents.Status() {
		agentRow(row(a.Node), a, leaves)
	}
	for _, s := range c.cache.Brief() {
		if r := row(s.Node); r.Stream == nil || s.Opened.After(r.Stream.Opened) {
			r.Stream = streamAnswer(s)
		}
	}
	out := make([]api.Sidecar, 0, len(rows))
	for _, r := range rows {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b api.Sidecar) int { return strings.Compare(a.Node, b.Node) })
	return out
}

func agentRow(r *api.Sidecar, a agents.NodeStatus, leaves map[string]pki.ServiceStatus) {
	r.Address, r.Zone = a.Address, a.Zone
	r.Agent = &api.Agent{
		Version: a.AgentVersion, EnvoyVersion: a.EnvoyVersion, Wiring: a.Wiring, Since: a.Since, LastHealth: a.LastHealth,
		EnvoyReady: a.EnvoyReady, EnvoyError: a.EnvoyError, Draining: a.Draining,
		NamesCurrent: a.NamesSent != "" && a.NamesSent == a.NamesApplied, NamesWaiting: a.NamesWaiting, NamesRefused: a.NamesRefused,
		Dependencies: a.Dependencies,
	}
	for _, p := range a.Ports {
		r.Ports = append(r.Ports, api.PortStatus{PortName: p.PortName, Service: p.Service, Health: p.Health, Why: p.Why, Registered: p.Registered, Error: p.Error})
		if l := leaves[p.Service]; !l.NotAfter.IsZero() && (r.LeafNotAfter.IsZero() || l.NotAfter.Before(r.LeafNotAfter)) {
			r.LeafNotAfter = l.NotAfter
		}
	}
}

func streamAnswer(s delta.StreamBrief) *api.Stream {
	out := &api.Stream{View: s.View, Opened: s.Opened, Types: []api.TypeSync{}, Warming: s.Warming}
	for _, t := range s.Types {
		one := api.TypeSync{Type: t.Type, State: api.Synced, Resources: t.Resources, LastAck: t.LastAck, LastAckSeconds: t.LastTook.Seconds()}
		switch {
		case len(t.Rejected) > 0:
			one.State = api.Rejected
			for _, r := range t.Rejected {
				one.Names = append(one.Names, r.Name)
				one.Rejections = append(one.Rejections, api.Refusal{Name: r.Name, Version: r.Version, Error: r.Error, At: r.At})
				if r.At.After(one.Since) {
					one.Since = r.At
				}
			}
		case !t.UnackedSince.IsZero():
			one.State, one.Since, one.Names = api.Waiting, t.UnackedSince, t.Waiting
		case len(t.Pending) > 0:
			one.State, one.Since, one.Names = api.Stale, s.Behind, t.Pending
		}
		if n := len(one.Names); n > api.MaxNames {
			one.Names, one.More = one.Names[:api.MaxNames], n-api.MaxNames
		}
		out.Missing = append(out.Missing, t.Missing...)
		out.Types = append(out.Types, one)
	}
	return out
}

// serviceQuery is one service with its endpoints.
func (c *control) serviceQuery(_ context.Context, q url.Values) (any, error) {
	name := q.Get("name")
	for _, one := range c.statusAnswer().Services {
		if one.Name == name {
			return c.detail(one), nil
		}
	}
	return nil, admin.Invalid{Err: fmt.Errorf("service %q is not in the mesh; ask with ?name=discoveryName.namespace", name)}
}

func (c *control) detail(one api.Service) api.ServiceDetail {
	d := api.ServiceDetail{Service: one, Instances: []api.Endpoint{}}
	snap := c.store.Snapshot()
	for _, v := range snap.Services {
		if v.Name.String() != one.Name {
			continue
		}
		for _, e := range v.Endpoints {
			d.Instances = append(d.Instances, api.Endpoint{
				InstanceID: e.InstanceID, Address: e.Addr.String(), Zone: e.Zone, Health: e.Health.String(), Weight: e.Weight, Revision: e.Revision, TLS: e.TLS,
			})
		}
		if v.Timeouts.Idle != nil {
			d.IdleSeconds = new(v.Timeouts.Idle.Seconds())
		}
		if v.Timeouts.PerRequest != nil {
			d.PerRequestSeconds = new(v.Timeouts.PerRequest.Seconds())
		}
	}
	if one.TLS != nil {
		if b := snap.Bundles[one.TLS.Issuer]; b != nil {
			d.RootsPEM = string(b.RootsPEM)
		}
	}
	return d
}

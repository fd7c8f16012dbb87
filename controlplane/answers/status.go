package answers

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"patchbay/admin"
	"patchbay/admin/api"
	"patchbay/agents"
	"patchbay/discovery"
	"patchbay/internal/health"
	"patchbay/internal/suggest"
	"patchbay/mesh"
	"patchbay/pki"
	"patchbay/shift"
	"patchbay/xds/delta"
)

// Status joins what the parts say of themselves.
func (s *Source) Status() api.Status {
	now := time.Now()
	reasons := health.Texts(s.NotReady())
	certificates := s.Rotator.Status()
	st := api.Status{
		Version: s.Version, Replica: s.Replica, At: now, Started: s.Started, Ready: len(reasons) == 0, Reasons: reasons,
		Namespaces: []api.Namespace{}, Issuers: []api.Issuer{},
	}
	if left, ok := s.Rotator.Survivable(now); ok {
		st.SurvivableSeconds = new(left.Seconds())
	}
	for _, i := range certificates.Issuers {
		st.Issuers = append(st.Issuers, api.Issuer{Name: i.Name, Roots: i.Roots, LastSeen: i.LastSeen, LastError: i.LastError, ErrorAt: i.ErrorAt})
	}
	leaves := map[string]pki.ServiceStatus{}
	for _, l := range certificates.Services {
		leaves[l.Service.String()] = l
	}
	snap := s.Store.Snapshot()
	for _, w := range snap.Callers {
		caller := api.Caller{Workload: w.String(), SPIFFEID: w.SPIFFEID(s.Config.TrustDomain)}
		if l, ok := leaves[w.CertificateName().String()]; ok {
			caller.TLS = *tlsAnswer(l)
		}
		st.Callers = append(st.Callers, caller)
	}
	namespaces := s.Namespaces()
	for _, n := range namespaces {
		st.Namespaces = append(st.Namespaces, api.Namespace{
			Name: n.Name, Synced: n.Synced, Waiting: n.Waiting, Stale: n.Stale, Listed: n.Listed, Error: n.Error, Rejected: n.Rejected,
		})
	}
	st.Services = append(servicesAnswer(namespaces, snap, leaves), externalAnswer(snap)...)
	s.expiring(st.Services)
	shares(st.Services, s.Traffic().Edges)
	st.Sidecars = s.sidecars(leaves)
	s.registry(&st)
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

// sidecars is a row for each node that has an agent or an Envoy here,
// sorted by node.
func (s *Source) sidecars(leaves map[string]pki.ServiceStatus) []api.Sidecar {
	rows := map[string]*api.Sidecar{}
	row := func(node string) *api.Sidecar {
		if rows[node] == nil {
			rows[node] = &api.Sidecar{Node: node, Replica: s.Replica, Ports: []api.PortStatus{}}
		}
		return rows[node]
	}
	for _, a := range s.Agents.Status() {
		agentRow(row(a.Node), a, leaves)
	}
	for _, b := range s.Cache.Brief() {
		if r := row(b.Node); r.Stream == nil || b.Opened.After(r.Stream.Opened) {
			r.Stream = streamAnswer(b)
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
		Dependencies: a.Dependencies, Rivalry: (*api.Rivalry)(a.Rivalry),
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
func (s *Source) serviceQuery(_ context.Context, q url.Values) (any, error) {
	services := map[string]api.Service{}
	for _, one := range s.Status().Services {
		services[one.Name] = one
	}
	full, err := suggest.Service(q.Get("name"), slices.Collect(maps.Keys(services)))
	if err != nil {
		return nil, admin.Invalid{Err: err}
	}
	return s.detail(services[full]), nil
}

func (s *Source) detail(one api.Service) api.ServiceDetail {
	d := api.ServiceDetail{Service: one, Instances: []api.Endpoint{}}
	snap := s.Store.Snapshot()
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

// Namespaces is what discovery says of each namespace, with the aliases that its
// services have lost to the control plane's file.
func (s *Source) Namespaces() []discovery.NamespaceStatus {
	all := s.Discovery.Status()
	for i, n := range all {
		all[i].Conflicts = append(n.Conflicts, s.External.Conflicts(n.Name)...)
	}
	return all
}

// externalAnswer is a row for each target outside the mesh that sidecars are
// told of.
func externalAnswer(snap *mesh.Snapshot) (out []api.Service) {
	for _, v := range snap.Services {
		if v.External == nil {
			continue
		}
		one := api.Service{Name: v.Name.String(), Source: "external", Aliases: []api.Alias{}, Endpoints: map[string]int{}}
		describe(&one, v)
		one.Callers = v.External.Callers
		for _, a := range v.External.Addresses {
			one.External = append(one.External, a.String())
		}
		if t := v.External.TLS; t != nil {
			one.TLS = &api.TLS{Issuer: "external", Only: true, Names: t.Names}
		}
		out = append(out, one)
	}
	return out
}

// registry adds how the registry, its events and the other replicas fare.
func (s *Source) registry(st *api.Status) {
	st.Conflicts = s.Foreseen()
	t := s.Discovery.Tally()
	st.Registry = &api.Calls{Total: t.Total, Failed: t.Failed, Throttled: t.Throttled, Dollars: t.Dollars, LastThrottled: t.LastThrottled, Slowed: t.Rates}
	maps.DeleteFunc(st.Registry.Slowed, func(_ string, share float64) bool { return share >= 1 })
	if s.Queue != nil {
		q := s.Queue.Status()
		st.Events = &api.Events{Queue: q.Queue, Standing: q.Standing, Answered: q.Answered, Tasks: q.Tasks}
		if q.Error != nil {
			st.Events.Error = q.Error.Error()
		}
	}
	if s.Replicas == nil {
		return
	}
	st.Content, st.Replicas = s.Content(), []api.Replica{}
	for _, p := range s.Replicas.Peers() {
		st.Replicas = append(st.Replicas, api.Replica{Address: p.Address, Heard: p.Heard, Since: p.Since, Content: p.Content, Differs: p.Differs})
	}
}

// expiring shows, of services whose certificate is to expire on purpose, that one.
func (s *Source) expiring(all []api.Service) {
	for i := range all {
		name, t := mesh.ServiceName{}, all[i].TLS
		name.DiscoveryName, name.Namespace, _ = strings.Cut(all[i].Name, ".")
		if leaf := s.Faults.Expiring(name); leaf != nil && t != nil {
			t.Serial, t.IssuedAt, t.NotAfter, t.OnPurpose = leaf.Serial, leaf.IssuedAt, leaf.NotAfter, true
		}
	}
}

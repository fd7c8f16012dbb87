package answers

import (
	"patchbay/admin/api"
	"patchbay/agents/traffic"
)

// Traffic is what connected tasks count.
func (s *Source) Traffic() api.Traffic {
	edges, ingresses := s.Agents.Traffic().Current()
	out := api.Traffic{Edges: []api.Edge{}, Ingresses: []api.Ingress{}}
	for _, e := range edges {
		out.Edges = append(out.Edges, api.Edge{
			Workload: e.Workload, Service: e.Service, RequestRate: e.RequestRate, ErrorRate: e.ErrorRate, P50: e.P50, P99: e.P99,
			Requests: e.Requests, Connections: e.Connections, Encryption: encryption(e.Flow),
		})
	}
	for _, i := range ingresses {
		out.Ingresses = append(out.Ingresses, api.Ingress{
			Workload: i.Workload, RequestRate: i.RequestRate, ErrorRate: i.ErrorRate, Connections: i.Connections,
			TLS13: i.TLS13, TLSOlder: i.TLSOlder, Refused: i.Refused, Knocked: i.Knocked, Denied: i.Denied, WouldDeny: i.WouldDeny, Limited: i.Limited, DeniedAt: i.DeniedAt,
		})
	}
	return out
}

func encryption(f traffic.Flow) api.Encryption {
	return api.Encryption{TLS13: f.TLS13, TLSOlder: f.TLSOlder, Plain: f.Plain, Undeclared: f.Undeclared, Failed: f.Failed, Unverified: f.Unverified, Exposed: f.Exposed, Distrusted: f.Distrusted}
}

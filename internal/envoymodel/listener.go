package envoymodel

import (
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// listener is one with the routes and the secrets that it needs.
type listener struct {
	config   []byte
	routes   []string
	secrets  []string
	deadline time.Time
}

func (e *Envoy) takeListeners(r *discoveryv3.DeltaDiscoveryResponse) (problem string) {
	for _, x := range r.GetResources() {
		m := &listenerv3.Listener{}
		if p := e.refuse(Listener, x); p != "" || x.GetResource().UnmarshalTo(m) != nil {
			problem = "Error adding/updating listener(s) " + x.GetName() + ": " + p
			continue // the others are applied
		}
		e.types[Listener].versions[x.GetName()] = x.GetVersion()
		if l := e.open[x.GetName()]; l != nil && sameBytes(l.config, x.GetResource().GetValue()) {
			continue
		}
		l := &listener{config: x.GetResource().GetValue(), deadline: time.Now().Add(Patience)}
		l.needs(m)
		e.waiting[x.GetName()] = l
	}
	for _, name := range r.GetRemovedResources() {
		delete(e.types[Listener].versions, name)
		delete(e.waiting, name)
		delete(e.open, name)
	}
	var routes, secrets, unused []string
	used := map[string]bool{}
	for _, all := range []map[string]*listener{e.waiting, e.open} {
		for _, l := range all {
			routes, secrets = append(routes, l.routes...), append(secrets, l.secrets...)
			for _, n := range l.routes {
				used[n] = true
			}
		}
	}
	for n := range e.types[Route].want {
		if !used[n] {
			unused = append(unused, n)
			delete(e.routes, n)
		}
	}
	e.watch(Secret, secrets, nil)
	e.watch(Route, routes, unused)
	e.openListeners()
	return problem
}

func (l *listener) needs(m *listenerv3.Listener) {
	for _, chain := range m.GetFilterChains() {
		d := &tlsv3.DownstreamTlsContext{}
		if s := chain.GetTransportSocket(); s != nil && s.GetTypedConfig().UnmarshalTo(d) == nil {
			for _, c := range d.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
				l.secrets = append(l.secrets, c.GetName())
			}
		}
		for _, f := range chain.GetFilters() {
			h := &hcmv3.HttpConnectionManager{}
			if f.GetTypedConfig().UnmarshalTo(h) == nil && h.GetRds() != nil {
				l.routes = append(l.routes, h.GetRds().GetRouteConfigName())
			}
		}
	}
}

// takeNamed takes routes or secrets. Removals are ignored: what is used stays.
func (e *Envoy) takeNamed(r *discoveryv3.DeltaDiscoveryResponse) string {
	have := e.secrets
	if r.GetTypeUrl() == Route {
		have = e.routes
	}
	sub := e.types[r.GetTypeUrl()]
	for _, x := range r.GetResources() {
		if p := e.refuse(r.GetTypeUrl(), x); p != "" {
			for name, l := range e.waiting { // they wait no more
				e.Harmed++
				e.openListener(name, l)
			}
			return x.GetName() + ": " + p
		}
		if sub.want[x.GetName()] {
			have[x.GetName()] = true
			sub.versions[x.GetName()] = x.GetVersion()
		}
	}
	for _, n := range r.GetRemovedResources() {
		delete(sub.versions, n)
	}
	e.openListeners()
	e.progressAll()
	return ""
}

func (e *Envoy) openListeners() {
	for name, l := range e.waiting {
		if l.complete(e) {
			e.openListener(name, l)
		}
	}
}

func (l *listener) complete(e *Envoy) bool {
	for _, n := range l.routes {
		if !e.routes[n] {
			return false
		}
	}
	for _, n := range l.secrets {
		if !e.secrets[n] {
			return false
		}
	}
	return true
}

func (e *Envoy) openListener(name string, l *listener) {
	delete(e.waiting, name)
	e.open[name] = l
}

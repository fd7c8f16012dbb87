// Package external makes services of targets outside the mesh: a database, an
// API of somebody else, that tasks call by an alias.
//
// It owns what a target amounts to, and where it stands among the services of
// the registry. It must not know files, the network, or Envoy.
//
// Start reading at [Target.Service], then [Sink].
package external

import (
	"cmp"
	"net/netip"
	"strconv"

	"patchbay/mesh"
)

// Target is one target. What is empty has a default, but for name, alias and
// addresses: see [Target.Service].
type Target struct {
	Name      mesh.ServiceName
	Protocol  mesh.Protocol
	Alias     mesh.Alias // whole, without a VIP
	Addresses []mesh.HostPort
	Discovery string // STATIC, STRICT_DNS or LOGICAL_DNS
	Host      string
	TLS       *mesh.ExternalTLS
	Callers   []string // names of workloads; nil: all of the namespace
}

// Service is the target as a service of its namespace. Its creation is before
// every other's: a service of the registry can't take its alias.
func (t Target) Service() *mesh.Service {
	s := &mesh.Service{Name: t.Name, Protocol: t.Protocol, Foreign: true}
	if s.Protocol == "" {
		s.Protocol = mesh.TCP
	}
	e := &mesh.External{Addresses: t.Addresses, Discovery: t.Discovery, Host: t.Host, Callers: t.Callers}
	var names []string
	var first mesh.HostPort // that has a name
	for _, a := range t.Addresses {
		if !isIP(a.Host) {
			names = append(names, a.Host)
			first = cmp.Or(first, a)
		}
	}
	if e.Discovery == "" {
		switch {
		case len(names) == 0:
			e.Discovery = "STATIC"
		case len(t.Addresses) == 1:
			// The newest answer alone: connections to an older one are kept.
			e.Discovery = "LOGICAL_DNS"
		default:
			e.Discovery = "STRICT_DNS"
		}
	}
	if t.TLS != nil {
		e.TLS = verified(*t.TLS, t.Addresses, names)
	}
	if e.Host == "" && s.Protocol.L7() && len(names) > 0 {
		e.Host = authority(first.Host, first.Port, t.TLS != nil)
	}
	s.Aliases, s.External = []mesh.Alias{t.Alias}, e
	return s
}

// verified fills in what is verified: the name that is asked for, else those of
// the addresses.
func verified(t mesh.ExternalTLS, addresses []mesh.HostPort, names []string) *mesh.ExternalTLS {
	if t.SNI == "" && len(names) > 0 {
		t.SNI = names[0]
	}
	switch {
	case len(t.Names) > 0:
	case t.SNI != "":
		t.Names = []string{t.SNI}
	default:
		for _, a := range addresses {
			t.Names = append(t.Names, a.Host)
		}
	}
	if t.MinimumVersion == "" {
		t.MinimumVersion = "1.2"
	}
	return &t
}

// authority is a host as a client would name it: with its port unless that is
// the usual one.
func authority(host string, port uint16, tls bool) string {
	if port == 443 && tls || port == 80 && !tls {
		return host
	}
	return host + ":" + strconv.Itoa(int(port))
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

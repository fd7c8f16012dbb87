package mesh

import (
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// External is where calls to a service go whose endpoints are not tasks: a
// database, an API of somebody else. Envoy finds the addresses itself.
type External struct {
	Addresses []HostPort
	// Discovery is STATIC, STRICT_DNS or LOGICAL_DNS: Envoy's words.
	Discovery string
	Host      string       // what requests name as their host; empty: what the application said
	TLS       *ExternalTLS // nil: plain text
	Callers   []string     // names of the workloads that may call it; nil: all of its namespace
}

// HostPort is an address by name or by IP.
type HostPort struct {
	Host string
	Port uint16
}

// String is host:port, an IPv6 address in brackets.
func (a HostPort) String() string { return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port))) }

// ExternalTLS is how a target outside the mesh is verified. It always is.
type ExternalTLS struct {
	SNI            string   // empty: none is sent
	Names          []string // DNS names and IP addresses, of which the certificate must have one
	Roots          []byte   // PEM: who may have signed it
	MinimumVersion string   // "1.2" or "1.3"
}

// equal reports whether e and o are the same target.
func (e *External) equal(o *External) bool { return e == o || reflect.DeepEqual(e, o) }

// Hidden are the discovery names of targets outside the mesh that a workload
// may not call: its sidecars are not told of them. Equal sets are equal strings.
type Hidden string

// Hidden are those of a workload.
func (s *Snapshot) Hidden(w Workload) Hidden {
	var names []string
	for _, v := range s.Namespace(w.Namespace) {
		if v.External != nil && v.External.Callers != nil && !slices.Contains(v.External.Callers, w.Name) {
			names = append(names, v.Name.DiscoveryName)
		}
	}
	return Hidden(strings.Join(names, ","))
}

func (h Hidden) has(discoveryName string) bool {
	return h != "" && slices.Contains(strings.Split(string(h), ","), discoveryName)
}

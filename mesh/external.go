package mesh

import "reflect"

// External is where calls to a service go whose endpoints are not tasks: a
// database, an API of somebody else. Envoy finds the addresses itself.
type External struct {
	Addresses []HostPort
	// Discovery is STATIC, STRICT_DNS or LOGICAL_DNS: Envoy's words.
	Discovery string
	Host      string       // what requests name as their host; empty: what the application said
	TLS       *ExternalTLS // nil: plain text
}

// HostPort is an address by name or by IP.
type HostPort struct {
	Host string
	Port uint16
}

// ExternalTLS is how a target outside the mesh is verified. It always is.
type ExternalTLS struct {
	SNI            string   // empty: none is sent
	Names          []string // DNS names and IP addresses, of which the certificate must have one
	Roots          []byte   // PEM: who may have signed it
	MinimumVersion string   // "1.2" or "1.3"
}

// equal reports whether e and o are the same target.
func (e *External) equal(o *External) bool { return e == o || reflect.DeepEqual(e, o) }

// Package identity proves who a workload is: join keys and one-time proofs,
// enrolment, node certificates, and the peer of a stream.
//
// It owns the control channel: its signer, its TLS, and which node stands
// behind a connection. It must not know xDS resources, nor certificates of
// the data plane: no bundle of theirs contains this signer. The half that runs
// inside a task is package identity/join. Start reading at [Server], then
// [Guard].
package identity

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"patchbay/mesh"
)

// segment is a path segment of a SPIFFE ID (SPIFFE-ID standard, 2.2).
var segment = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// NodeURI is the SPIFFE ID of a node: the only name in its certificate.
func NodeURI(trustDomain string, n mesh.Node) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/node/" + n.ID()}
}

// ControlName is the DNS SAN of the control plane's certificate. Clients
// verify it whatever host name they dial.
func ControlName(trustDomain string) string { return "control." + trustDomain }

// parseNodeURI is the reverse of NodeURI. The workload that it returns has no
// discoveryNames yet.
func parseNodeURI(trustDomain string, u *url.URL) (mesh.Node, error) {
	parts := strings.Split(u.Path, "/")
	if u.Scheme != "spiffe" || u.Host != trustDomain || len(parts) != 5 || parts[1] != "node" {
		return mesh.Node{}, fmt.Errorf("%q is not a node of trust domain %s", u, trustDomain)
	}
	n := mesh.Node{Workload: mesh.Workload{Namespace: parts[2], Name: parts[3]}, Task: parts[4]}
	return n, ValidNode(n)
}

// ValidNode reports whether the names of n may stand in a SPIFFE ID.
func ValidNode(n mesh.Node) error {
	for _, part := range []struct{ what, name string }{{"namespace", n.Workload.Namespace}, {"workload", n.Workload.Name}} {
		if !segment.MatchString(part.name) || strings.Trim(part.name, ".") == "" {
			return fmt.Errorf("%s %q; allowed: 1 to 128 of [A-Za-z0-9._-]", part.what, part.name)
		}
	}
	if !mesh.ValidTask(n.Task) {
		return fmt.Errorf("task %q; allowed: 1 to 64 of [0-9a-zA-Z_-]", n.Task)
	}
	return nil
}

// CheckNode holds what an Envoy claims in a message against the node that its
// certificate proves. Empty claims are fine: later messages carry none.
func CheckNode(n mesh.Node, claimedID, claimedCluster string) error {
	if claimedID != "" && claimedID != n.ID() {
		return fmt.Errorf("node.id %q is claimed, but the certificate is that of %q", claimedID, n.ID())
	}
	if claimedCluster != "" && claimedCluster != n.Workload.String() {
		return fmt.Errorf("node.cluster %q is claimed, but the certificate is that of workload %q", claimedCluster, n.Workload)
	}
	return nil
}

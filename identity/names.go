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
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"patchbay/identity/join"
	"patchbay/mesh"
)

// nodeURI is the only name in a node's certificate.
func nodeURI(trustDomain string, n mesh.Node) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/node/" + n.ID()}
}

// parseNodeURI is the reverse of nodeURI. The workload that it returns has no
// discoveryNames yet.
func parseNodeURI(trustDomain string, u *url.URL) (mesh.Node, error) {
	id, err := spiffeid.FromURI(u)
	parts := strings.Split(id.Path(), "/")
	if err != nil || id.TrustDomain().Name() != trustDomain || len(parts) != 5 || parts[1] != "node" {
		return mesh.Node{}, fmt.Errorf("%q is not a node of trust domain %s", u, trustDomain)
	}
	n := mesh.Node{Workload: mesh.Workload{Namespace: parts[2], Name: parts[3]}, Task: parts[4]}
	return n, validNode(n)
}

// validNode lists what is wrong with the names of n; they become parts of a
// SPIFFE ID.
func validNode(n mesh.Node) error {
	errs := join.ValidWorkload(n.Workload)
	if !mesh.ValidTask(n.Task) {
		errs = append(errs, fmt.Errorf("task: %.80q; allowed: 1 to 64 of [0-9a-zA-Z_-]", n.Task))
	}
	return errors.Join(errs...)
}

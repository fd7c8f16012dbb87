// Package claim is what a client says of itself as it opens a stream, and how
// much of that is believed.
//
// It owns the checks of a node's id, metadata, ports and policies, in our own
// form and in that of AWS's agent. It must not know streams, nor what a client is
// told in return. Start reading at [Read].
package claim

import (
	"fmt"
	"regexp"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// Claim is who opens a stream, and what kind of client it is.
type Claim struct {
	Who         mesh.Node
	Meta        bootstrap.NodeMeta
	Proxyless   bool   // a gRPC client: it has no metadata of ours, and no ports
	Collections bool   // it can take them
	Zone        string // empty: not known
	Region      string // AWS's agent says it besides the zone, and an Envoy compares both
}

// Read is what a client in our own form says. Who it is is not among it.
func Read(envoy *corev3.Node) (Claim, error) {
	c := Claim{
		Proxyless: strings.HasPrefix(envoy.GetUserAgentName(), "gRPC"), Collections: takesCollections(envoy),
		Zone: zoneName.FindString(envoy.GetLocality().GetZone()),
	}
	if c.Proxyless {
		return c, nil
	}
	var err error
	if c.Meta, err = bootstrap.DecodeMeta(envoy.GetMetadata()); err != nil {
		return c, status.Error(codes.InvalidArgument, err.Error())
	}
	if wrong := policyProblems(c.Meta); wrong != nil {
		return c, status.Errorf(codes.InvalidArgument, "policies of the node's metadata: %s", strings.Join(wrong, "; "))
	}
	return c, nil
}

var (
	zoneName   = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	regionName = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)
)

// takesCollections reports whether an Envoy is one on which LEDS was tested:
// 1.40 or newer.
func takesCollections(n *corev3.Node) bool {
	v := n.GetUserAgentBuildVersion().GetVersion()
	return n.GetUserAgentName() == "envoy" && (v.GetMajorNumber() > 1 || v.GetMajorNumber() == 1 && v.GetMinorNumber() >= 40)
}

// MayOffer refuses ports of services that a node's workload does not offer.
func MayOffer(n mesh.Node, meta bootstrap.NodeMeta) error {
	var foreign []string
	for _, port := range meta.Ports {
		if name := (mesh.ServiceName{Namespace: n.Workload.Namespace, DiscoveryName: port.DiscoveryName}); !n.Workload.Offers(name) {
			foreign = append(foreign, fmt.Sprintf("port %s is one of %s", port.PortName, name))
		}
	}
	if foreign != nil {
		return status.Errorf(codes.PermissionDenied, "workload %s may offer %q only: %s", n.Workload, n.Workload.DiscoveryNames, strings.Join(foreign, "; "))
	}
	return nil
}

// Unproved believes a node: "namespace/workload/task" of "namespace/workload",
// offering what it says.
func Unproved(envoy *corev3.Node, meta bootstrap.NodeMeta) (mesh.Node, error) {
	parts := strings.Split(envoy.GetId(), "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || !mesh.ValidTask(parts[2]) || envoy.GetCluster() != parts[0]+"/"+parts[1] {
		return mesh.Node{}, status.Errorf(codes.InvalidArgument,
			"node.id %q, node.cluster %q; allowed: namespace/workload/task and namespace/workload", envoy.GetId(), envoy.GetCluster())
	}
	n := mesh.Node{Workload: mesh.Workload{Namespace: parts[0], Name: parts[1]}, Task: parts[2]}
	for _, port := range meta.Ports {
		n.Workload.DiscoveryNames = append(n.Workload.DiscoveryNames, port.DiscoveryName)
	}
	return n, nil
}

// clip is as much of a claim as tells which it is.
func clip(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:200], ""), len(s))
	}
	return s
}

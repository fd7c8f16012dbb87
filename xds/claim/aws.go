package claim

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// AWS is what a node in the form of AWS's agent says. Its node.id is a task
// set's, which all tasks of a deployment share, and proves nothing: the client is
// a task of the socket's workload. The task is empty where the node does not say
// it.
func (s Socket) AWS(envoy *corev3.Node) (Claim, error) {
	said, err := bootstrap.DecodeAWS(envoy.GetMetadata())
	if err != nil {
		return Claim{}, status.Error(codes.InvalidArgument, err.Error())
	}
	if n := said.Namespace; n != "" && !strings.EqualFold(n, s.Workload.Namespace) {
		return Claim{}, status.Errorf(codes.PermissionDenied,
			"this socket is that of workload %s, and the node says namespace %q (aws.ecs.serviceconnect.ServiceDiscovery); allowed: %q", s.Workload, clip(n), s.Workload.Namespace)
	}
	meta, err := s.place(said)
	if err != nil {
		return Claim{}, status.Error(codes.InvalidArgument, err.Error())
	}
	c := Claim{Who: mesh.Node{Workload: s.Workload, Task: said.Task}, Meta: meta, Region: regionName.FindString(envoy.GetLocality().GetRegion())}
	return c, MayOffer(c.Who, meta)
}

const ingressPrefix = "ingress-"

// place puts the listeners where the node says, and what AWS's form does not
// have to the ports of the socket's workload. The error lists every problem.
func (s Socket) place(said bootstrap.AWS) (bootstrap.NodeMeta, error) {
	m := bootstrap.NodeMeta{
		Version: "aws", Wiring: mesh.Redirect, IPv6: said.IPv6,
		AWS: &bootstrap.Placed{EgressPort: said.Listeners[bootstrap.EgressListener], Apps: map[string]netip.Addr{}},
	}
	known := map[string]bool{bootstrap.EgressListener: true}
	var errs []error
	for _, p := range s.Ports {
		name := ingressPrefix + p.PortName
		known[name] = true
		port := said.Listeners[name]
		if port == 0 {
			continue
		}
		addr, err := appAddr(p, said)
		if err != nil {
			errs = append(errs, err)
		}
		if port == p.AppPort && (!addr.IsValid() || addr.IsLoopback()) {
			errs = append(errs, fmt.Errorf("aws.ecs.serviceconnect.ListenerPortMapping: %q: %d is the application's own port; allowed: another", name, port))
		}
		if addr.IsValid() {
			m.AWS.Apps[p.PortName] = addr
		}
		p.ListenerPort = port
		m.Ports = append(m.Ports, p.Port)
	}
	for _, name := range slices.Sorted(maps.Keys(said.Listeners)) {
		if !known[name] {
			errs = append(errs, fmt.Errorf("aws.ecs.serviceconnect.ListenerPortMapping: %q is no listener of workload %s; allowed: %s (xds.unix[].ports has the ports)",
				clip(name), s.Workload, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
		}
	}
	return m, errors.Join(errs...)
}

// appAddr is where the application of a port is. The zero Addr is 127.0.0.1. A
// node that lists no containers shares their network.
func appAddr(p Port, said bootstrap.AWS) (netip.Addr, error) {
	if p.Container != "" && len(said.ContainerIPs) > 0 {
		addr, ok := said.ContainerIPs[p.Container]
		if !ok {
			return addr, fmt.Errorf("aws.ecs.serviceconnect.ClusterIPMapping: has no container %q, where port %s is; it has %s",
				p.Container, p.PortName, strings.Join(slices.Sorted(maps.Keys(said.ContainerIPs)), ", "))
		}
		return addr, nil
	}
	if !said.IPv4 {
		return netip.IPv6Loopback(), nil
	}
	return netip.Addr{}, nil
}

package xds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
	"patchbay/xds/transition"
)

// openAWS opens the stream of a node in the form of AWS's agent. Its node.id is
// a task set's, which all tasks of a deployment share, and proves nothing: the
// stream is known as a task of the socket's workload.
func (o socketOpener) openAWS(ctx context.Context, envoy *corev3.Node, s *delta.Stream) (delta.Opened, error) {
	said, err := bootstrap.DecodeAWS(envoy.GetMetadata())
	if err != nil {
		return delta.Opened{}, status.Error(codes.InvalidArgument, err.Error())
	}
	if n := said.Namespace; n != "" && !strings.EqualFold(n, o.Workload.Namespace) {
		return delta.Opened{}, status.Errorf(codes.PermissionDenied,
			"this socket is that of workload %s, and the node says namespace %q (aws.ecs.serviceconnect.ServiceDiscovery); allowed: %q", o.Workload, clip(n), o.Workload.Namespace)
	}
	meta, err := o.place(said)
	if err != nil {
		return delta.Opened{}, status.Error(codes.InvalidArgument, err.Error())
	}
	who := mesh.Node{Workload: o.Workload, Task: said.Task}
	if who.Task == "" {
		who.Task = fmt.Sprintf("stream-%d", o.streams.Add(1))
	}
	if err := mayOffer(who, meta); err != nil {
		return delta.Opened{}, err
	}
	if err := o.guarded(ctx, who, meta); err != nil {
		return delta.Opened{}, err
	}
	opened, err := o.enter(ctx, entrance{who: who, meta: meta, region: regionOf(envoy)}, s)
	if err != nil {
		return opened, err
	}
	for _, p := range o.Ports {
		if said.Listeners[ingressPrefix+p.PortName] == 0 {
			o.log.Warn("a port is not offered: the node has no listener for it", "node", who.ID(), "port_name", p.PortName)
		}
	}
	opened.Known = delta.Peer{ID: who.ID(), Cluster: o.Workload.String()}
	return opened, nil
}

// guarded refuses a node that would let everybody in where its service does
// not: what a service asks of its callers its own sidecars keep, and are told in
// their declaration, which AWS's form does not have.
func (o socketOpener) guarded(ctx context.Context, who mesh.Node, meta bootstrap.NodeMeta) error {
	if err := o.synced(ctx, who); err != nil {
		return err
	}
	snap := o.store.Snapshot()
	for _, p := range meta.Ports {
		s := snap.Service(mesh.ServiceName{Namespace: who.Workload.Namespace, DiscoveryName: p.DiscoveryName})
		if s != nil && transition.Asks(s) {
			return status.Errorf(codes.FailedPrecondition,
				"%s has mutualTls, which a node in the form of AWS's agent does not keep: port %s would let everybody in; allowed: patchbay's own sidecar, or another service", s.Name, p.PortName)
		}
	}
	return nil
}

var zoneName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// zoneIn is the zone where a node says that it is; empty if that can be none.
func zoneIn(n *corev3.Node) string { return zoneName.FindString(n.GetLocality().GetZone()) }

var regionName = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// regionOf is where a node says that it is: AWS's agent says the region besides
// the zone, and an Envoy compares both.
func regionOf(n *corev3.Node) string { return regionName.FindString(n.GetLocality().GetRegion()) }

const ingressPrefix = "ingress-"

// place puts the listeners where the node says, and what AWS's form does not
// have to the ports of the socket's workload. The error lists every problem.
func (o socketOpener) place(said bootstrap.AWS) (bootstrap.NodeMeta, error) {
	m := bootstrap.NodeMeta{
		Version: "aws", Wiring: mesh.Redirect, IPv6: said.IPv6,
		AWS: &bootstrap.Placed{EgressPort: said.Listeners[bootstrap.EgressListener], Apps: map[string]netip.Addr{}},
	}
	known := map[string]bool{bootstrap.EgressListener: true}
	var errs []error
	for _, p := range o.Ports {
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
				clip(name), o.Workload, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
		}
	}
	return m, errors.Join(errs...)
}

// appAddr is where the application of a port is. The zero Addr is 127.0.0.1. A
// node that lists no containers shares their network.
func appAddr(p SocketPort, said bootstrap.AWS) (netip.Addr, error) {
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

package xds

import (
	"context"
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/claim"
	"patchbay/xds/delta"
	"patchbay/xds/transition"
)

var _ delta.Opener = socketOpener{}

// socketOpener opens the streams of one socket.
type socketOpener struct {
	*Pusher
	claim.Socket
}

// NewSocketServer returns a server for the tasks of one workload, which it
// serves both variants of ADS. Who can connect is one of them, so it is for a
// Unix socket whose permissions are the guard.
func NewSocketServer(p *Pusher, s claim.Socket, cfg ServerConfig) *Server {
	cfg.StateOfTheWorld = true
	return newServer(p, socketOpener{p, s}, cfg, true)
}

// Identify implements [delta.Opener]. The tasks of a workload share its socket
// and are told apart by stream, so that there is no node.id to insist on.
func (socketOpener) Identify(context.Context) (delta.Peer, error) { return delta.Peer{}, nil }

// Open implements [delta.Opener].
func (o socketOpener) Open(ctx context.Context, envoy *corev3.Node, s *delta.Stream) (delta.Opened, error) {
	if bootstrap.IsAWS(envoy) {
		return o.openAWS(ctx, envoy, s)
	}
	who, err := o.Own(envoy)
	if err != nil {
		return delta.Opened{}, err
	}
	c, err := claim.Read(envoy)
	if err != nil {
		return delta.Opened{}, err
	}
	if err := claim.MayOffer(who, c.Meta); err != nil {
		return delta.Opened{}, err
	}
	c.Who = who
	return o.enter(ctx, c, s)
}

// openAWS opens the stream of a node in the form of AWS's agent.
func (o socketOpener) openAWS(ctx context.Context, envoy *corev3.Node, s *delta.Stream) (delta.Opened, error) {
	c, err := o.AWS(envoy)
	if err != nil {
		return delta.Opened{}, err
	}
	if c.Who.Task == "" {
		c.Who.Task = fmt.Sprintf("stream-%d", o.streams.Add(1))
	}
	if err := o.guarded(ctx, c.Who, c.Meta); err != nil {
		return delta.Opened{}, err
	}
	opened, err := o.enter(ctx, c, s)
	if err != nil {
		return opened, err
	}
	for _, p := range o.Ports {
		if !slices.ContainsFunc(c.Meta.Ports, func(x bootstrap.Port) bool { return x.PortName == p.PortName }) {
			o.log.Warn("a port is not offered: the node has no listener for it", "node", c.Who.ID(), "port_name", p.PortName)
		}
	}
	opened.Known = delta.Peer{ID: c.Who.ID(), Cluster: o.Workload.String()}
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

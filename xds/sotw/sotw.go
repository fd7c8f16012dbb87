// Package sotw serves clients that speak the state-of-the-world variant of ADS
// (gRPC without a proxy, nodes in AWS's form) from the engine's entries.
//
// It owns the difference between the two variants: what one response must hold.
// What was rejected, and is held back until its content changes, is in the
// engine's books. go-control-plane's server keeps the protocol's nonces. It must not
// know the mesh. Start reading at [Server.Serve].
package sotw

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/xds/delta"
)

// Server serves the streams of a cache.
type Server struct {
	cache  *delta.Cache
	opener delta.Opener
	log    *slog.Logger
}

// New returns a server of cache. opener decides about its streams as it does
// about incremental ones.
func New(cache *delta.Cache, opener delta.Opener, log *slog.Logger) *Server {
	return &Server{cache, opener, log}
}

// Serve serves one aggregated stream until it ends.
func (s *Server) Serve(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	who, err := s.opener.Identify(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	node := first.GetNode()
	if node == nil {
		return status.Error(codes.InvalidArgument, "the first request of a stream must carry the node")
	}
	if who == (delta.Peer{}) {
		who = delta.Peer{ID: node.GetId(), Cluster: node.GetCluster()}
	}
	if err := check(node, who); err != nil {
		return err
	}
	local := s.cache.NewLocal(who, s.log)
	opened, err := s.opener.Open(stream.Context(), node, local.Stream)
	if err != nil {
		return err
	}
	defer opened.Closed()
	local.Attach(opened)
	defer local.Detach()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	w := newWatcher(local)
	go w.run(ctx)
	opts := serverv3.WithOrderedADS()
	return serverv3.NewServer(ctx, w, nil, opts).StreamHandler(&checked{stream, who, first}, resource.AnyType)
}

func check(node *corev3.Node, who delta.Peer) error {
	if node != nil && (node.GetId() != who.ID || node.GetCluster() != who.Cluster) {
		return status.Errorf(codes.PermissionDenied, "this connection is that of node %q of cluster %q", who.ID, who.Cluster)
	}
	return nil
}

// checked gives the first request back, and refuses a node that changes and
// types that are not served.
type checked struct {
	discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer
	who   delta.Peer
	first *discoveryv3.DiscoveryRequest
}

var served = []string{delta.ClusterType, delta.EndpointType, delta.SecretType, delta.ListenerType, delta.RouteType}

// Recv implements the stream. A request of a type that is not served is
// ignored, as the protocol asks.
func (c *checked) Recv() (*discoveryv3.DiscoveryRequest, error) {
	for {
		r := c.first
		if c.first = nil; r == nil {
			var err error
			if r, err = c.AggregatedDiscoveryService_StreamAggregatedResourcesServer.Recv(); err != nil {
				return nil, err
			}
		}
		if err := check(r.GetNode(), c.who); err != nil {
			return nil, err
		}
		if r.GetTypeUrl() == "" || slices.Contains(served, r.GetTypeUrl()) {
			return r, nil
		}
	}
}

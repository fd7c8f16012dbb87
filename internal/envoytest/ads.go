package envoytest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// ADS is the least incremental ADS server that keeps Envoy's rules of order.
// It is for tests of what resources mean; the product's engine is another. It
// serves each node what Set gave it, and fails the test on a rejection.
type ADS struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	t       testing.TB
	mu      sync.Mutex
	nodes   map[string]map[ref]*discoveryv3.Resource // by node id
	streams map[*adsStream]bool
	seen    []Opened
}

// Opened is how a stream began.
type Opened struct {
	Node *corev3.Node
	Ctx  context.Context //nolint:containedctx // for the peer's certificate
}

type ref struct{ typeURL, name string }

type adsStream struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	node    string
	wants   map[ref]bool   // subscribed names; the name "" is all
	sent    map[ref]string // versions
	unacked map[string]bool
	nonce   int
}

// The order in which a flush sends additions.
var adsOrder = []string{"cluster.v3.Cluster", "ClusterLoadAssignment", "tls.v3.Secret", "listener.v3.Listener", "RouteConfiguration"}

// NewADS returns a server without resources.
func NewADS(t testing.TB) *ADS {
	return &ADS{t: t, nodes: map[string]map[ref]*discoveryv3.Resource{}, streams: map[*adsStream]bool{}}
}

// Serve answers on lis until stop is called, at the latest at the test's end.
func (a *ADS) Serve(lis net.Listener, opts ...grpc.ServerOption) (stop func()) {
	opts = append(opts, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}))
	s := grpc.NewServer(append(opts, grpc.WaitForHandlers(true))...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, a)
	go s.Serve(lis) //nolint:errcheck // it ends with stop
	stop = sync.OnceFunc(s.Stop)
	a.t.Cleanup(stop)
	return stop
}

// Resource is what Set takes; a type of its own keeps this package free of
// the product's.
type Resource struct {
	TypeURL, Name string
	Message       proto.Message
}

// Set replaces what a node has, and pushes the difference.
func (a *ADS) Set(node string, all []Resource) {
	a.t.Helper()
	m := map[ref]*discoveryv3.Resource{}
	for _, r := range all {
		body, err := anypb.New(r.Message)
		if err != nil {
			a.t.Fatal(err)
		}
		k := ref{r.TypeURL, r.Name}
		if m[k] != nil {
			a.t.Fatalf("%v is there twice", k)
		}
		m[k] = &discoveryv3.Resource{Name: r.Name, Version: fmt.Sprintf("%x", sha256.Sum256(body.Value))[:12], Resource: body}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nodes[node] = m
	for s := range a.streams {
		if s.node == node {
			a.flush(s)
		}
	}
}

// Settled waits until the node has accepted everything that was sent to it.
// Envoy does so for clusters only when they are in use.
func (a *ADS) Settled(node string) {
	a.t.Helper()
	Eventually(a.t, 10*time.Second, func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		for s := range a.streams {
			if s.node != node {
				continue
			}
			if len(s.unacked) > 0 {
				return fmt.Errorf("%s has not answered %v", node, slices.Collect(maps.Keys(s.unacked)))
			}
			return nil
		}
		return errors.New(node + " is not connected")
	})
}

// Streams is how each stream so far began.
func (a *ADS) Streams() []Opened {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.seen)
}

// DeltaAggregatedResources implements the protocol.
func (a *ADS) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	s := &adsStream{
		AggregatedDiscoveryService_DeltaAggregatedResourcesServer: stream,
		wants: map[ref]bool{}, sent: map[ref]string{}, unacked: map[string]bool{},
	}
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.streams, s)
	}()
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		a.request(s, req)
	}
}

func (a *ADS) request(s *adsStream, req *discoveryv3.DeltaDiscoveryRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.node == "" {
		s.node = req.GetNode().GetId()
		a.streams[s] = true
		a.seen = append(a.seen, Opened{req.GetNode(), s.Context()})
	}
	if e := req.ErrorDetail; e != nil {
		a.t.Errorf("%s rejects %s: %s", s.node, req.TypeUrl, e.Message)
	}
	if req.ResponseNonce != "" {
		delete(s.unacked, req.ResponseNonce)
	} else if len(req.ResourceNamesSubscribe) == 0 {
		s.wants[ref{req.TypeUrl, ""}] = true
	}
	for name, version := range req.InitialResourceVersions {
		s.sent[ref{req.TypeUrl, name}] = version
	}
	for _, name := range req.ResourceNamesSubscribe {
		k := ref{req.TypeUrl, name}
		s.wants[k] = true
		if _, has := req.InitialResourceVersions[name]; !has {
			delete(s.sent, k)
		}
	}
	for _, name := range req.ResourceNamesUnsubscribe {
		delete(s.wants, ref{req.TypeUrl, name})
		delete(s.sent, ref{req.TypeUrl, name})
	}
	a.flush(s)
}

// flush sends what s wants and does not have: additions in order, the
// endpoints of every cluster that is sent, removals last.
func (a *ADS) flush(s *adsStream) {
	have := a.nodes[s.node]
	if have == nil {
		return
	}
	clusters := map[string]bool{}
	for _, suffix := range adsOrder {
		var send []*discoveryv3.Resource
		typeURL := ""
		for k, r := range have {
			if !strings.HasSuffix(k.typeURL, suffix) || !s.wants[k] && !s.wants[ref{k.typeURL, ""}] {
				continue
			}
			again := strings.HasSuffix(k.typeURL, "ClusterLoadAssignment") && clusters[k.name]
			if s.sent[k] == r.Version && !again {
				continue
			}
			typeURL, s.sent[k] = k.typeURL, r.Version
			send = append(send, r)
			if suffix == adsOrder[0] {
				clusters[k.name] = true
			}
		}
		if send != nil {
			s.send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Resources: send})
		}
	}
	removed := map[string][]string{}
	for k := range s.sent {
		if have[k] == nil {
			delete(s.sent, k)
			removed[k.typeURL] = append(removed[k.typeURL], k.name)
		}
	}
	for typeURL, names := range removed {
		s.send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, RemovedResources: names})
	}
}

func (s *adsStream) send(r *discoveryv3.DeltaDiscoveryResponse) {
	s.nonce++
	r.Nonce = fmt.Sprintf("%d %s", s.nonce, r.TypeUrl)
	s.unacked[r.Nonce] = true
	s.Send(r) //nolint:errcheck // the stream's end is seen by Recv
}

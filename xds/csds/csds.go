// Package csds answers Envoy's client status discovery protocol
// (envoy.service.status.v3) from the engine's books: for each connected node
// and resource what was sent, what it made of it, and what it waits for.
//
// It owns the protocol's words for this. It never shows a resource's content,
// which may hold a key, and must not know who may ask: mount it behind the
// admin interface's guard. Start reading at [New].
package csds

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"patchbay/xds/delta"
)

// Paths are the patterns under which [Server] must be mounted: the gRPC service
// (which needs HTTP/2, on a plain listener without TLS), and the same as JSON.
var Paths = []string{"POST /" + statusv3.ClientStatusDiscoveryService_ServiceDesc.ServiceName + "/", "POST " + jsonPath}

const (
	jsonPath = "/v3/discovery:client_status"
	maxBody  = 1 << 20
)

// Server answers. It is safe for concurrent use.
type Server struct {
	statusv3.UnimplementedClientStatusDiscoveryServiceServer
	streams func() []delta.StreamStatus
	grpc    *grpc.Server
}

// New returns a server that shows the streams of a cache.
func New(cache *delta.Cache) *Server {
	s := &Server{streams: cache.Status, grpc: grpc.NewServer(grpc.MaxRecvMsgSize(maxBody))}
	statusv3.RegisterClientStatusDiscoveryServiceServer(s.grpc, s)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		s.grpc.ServeHTTP(w, r)
		return
	}
	if r.URL.Path != jsonPath {
		http.Error(w, "this path speaks gRPC over HTTP/2; POST "+jsonPath+" answers JSON", http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	req := &statusv3.ClientStatusRequest{}
	if err == nil && len(body) > 0 {
		err = protojson.Unmarshal(body, req)
	}
	if err != nil {
		http.Error(w, "the body is no ClientStatusRequest: "+err.Error(), http.StatusBadRequest)
		return
	}
	resp, err := s.FetchClientStatus(r.Context(), req)
	if err != nil {
		http.Error(w, status.Convert(err).Message(), http.StatusBadRequest)
		return
	}
	out, err := protojson.MarshalOptions{Multiline: true}.Marshal(resp)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(out) //nolint:errcheck // the caller has gone
}

// FetchClientStatus implements the protocol.
func (s *Server) FetchClientStatus(_ context.Context, r *statusv3.ClientStatusRequest) (*statusv3.ClientStatusResponse, error) {
	out := &statusv3.ClientStatusResponse{}
	for _, st := range s.streams() {
		show, err := matches(r.GetNodeMatchers(), st.Node)
		if err != nil {
			return nil, err
		}
		if show {
			out.Config = append(out.Config, config(st))
		}
	}
	return out, nil
}

// StreamClientStatus implements the protocol: an answer for each request.
func (s *Server) StreamClientStatus(stream statusv3.ClientStatusDiscoveryService_StreamClientStatusServer) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out, err := s.FetchClientStatus(stream.Context(), r)
		if err != nil {
			return err
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

// matches reports whether any matcher fits a node; none means all.
func matches(all []*matcherv3.NodeMatcher, node string) (bool, error) {
	fits := len(all) == 0
	for _, m := range all {
		if len(m.GetNodeMetadatas()) > 0 {
			return false, status.Error(codes.InvalidArgument, "node_matchers.node_metadatas is not supported; match by node_id")
		}
		id, yes := m.GetNodeId(), false
		switch p := id.GetMatchPattern().(type) {
		case nil:
			yes = true
		case *matcherv3.StringMatcher_Exact:
			yes = node == p.Exact
		case *matcherv3.StringMatcher_Prefix:
			yes = strings.HasPrefix(node, p.Prefix)
		case *matcherv3.StringMatcher_Suffix:
			yes = strings.HasSuffix(node, p.Suffix)
		case *matcherv3.StringMatcher_Contains:
			yes = strings.Contains(node, p.Contains)
		default:
			return false, status.Error(codes.InvalidArgument, "node_matchers.node_id: allowed are exact, prefix, suffix and contains")
		}
		fits = fits || yes
	}
	return fits, nil
}

func config(st delta.StreamStatus) *statusv3.ClientConfig {
	out := &statusv3.ClientConfig{Node: &corev3.Node{Id: st.Node, Cluster: st.Cluster}, ClientScope: "view " + st.View}
	for _, t := range st.Types {
		out.GenericXdsConfigs = append(out.GenericXdsConfigs, resources(t)...)
	}
	return out
}

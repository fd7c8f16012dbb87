package delta

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"patchbay/xds/delta/admit"
	"patchbay/xds/delta/books"
	"patchbay/xds/delta/diary"
	figures "patchbay/xds/delta/metrics"
	"patchbay/xds/delta/wire"
)

// Peer is who the connection proved to be: the node.id and node.cluster that
// its requests must carry. The zero Peer proves nothing; then the first
// request's are taken, and may not change.
type Peer struct{ ID, Cluster string }

// Opened is what a stream may see.
type Opened struct {
	View   string // key of a view of the cache
	Known  Peer   // what the node is called in the books, where its own id is not unique or not believed; zero: as it says
	Closed func() // called once when the stream has ended
}

// Opener decides about streams. Its errors are gRPC statuses fit to be told to
// the client; other errors become "internal".
type Opener interface {
	// Identify says who is at the other end of the connection. It is called
	// before anything is read.
	Identify(ctx context.Context) (Peer, error)
	// Open is called once, before the first answer, with a node whose id and
	// cluster are the peer's. It gives s its private entries (SetPrivate) and
	// blocks until the view is complete: what it does not have by then is told
	// to a returning client as removed. ctx ends with the stream.
	Open(ctx context.Context, node *corev3.Node, s *Stream) (Opened, error)
}

// Config of a [Server].
type Config struct {
	Log         *slog.Logger
	SendTimeout time.Duration // a stream whose client reads nothing for so long is ended; 0: 30 s
	Admit       admit.Limits  // of the streams that may open
	// StateOfTheWorld serves streams of that variant; nil refuses them.
	StateOfTheWorld func(grpc.ServerStream) error
}

// Server serves the streams of a cache.
type Server struct {
	cache   *Cache
	opener  Opener
	cfg     Config
	gate    *admit.Gate
	diary   *diary.Diary
	closing chan struct{}
	once    sync.Once
}

// NewServer returns a server that serves cache.
func NewServer(cache *Cache, opener Opener, cfg Config) *Server {
	cfg.SendTimeout = cmp.Or(cfg.SendTimeout, 30*time.Second)
	return &Server{cache: cache, opener: opener, cfg: cfg, gate: admit.New(cfg.Admit), diary: diary.New(cfg.Log), closing: make(chan struct{})}
}

// Close ends all streams, telling the clients to come back. It does not wait.
func (s *Server) Close() { s.once.Do(func() { close(s.closing) }) }

// Register adds the aggregated discovery service to g, which must have been
// made with [Options]. The unary Fetch services are not there.
func (s *Server) Register(g *grpc.Server) {
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: "envoy.service.discovery.v3.AggregatedDiscoveryService",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "DeltaAggregatedResources", ServerStreams: true, ClientStreams: true,
				Handler: func(_ any, ss grpc.ServerStream) error { return s.serve(ss) }},
			{StreamName: "StreamAggregatedResources", ServerStreams: true, ClientStreams: true, Handler: s.stateOfTheWorld},
		},
		Metadata: "envoy/service/discovery/v3/ads.proto",
	}, s)
}

// stateOfTheWorld admits a stream of the other variant.
func (s *Server) stateOfTheWorld(_ any, ss grpc.ServerStream) (err error) {
	if s.cfg.StateOfTheWorld == nil {
		return status.Error(codes.Unimplemented, "this control plane speaks incremental ADS: set api_type DELTA_GRPC")
	}
	defer func() {
		if p := recover(); p != nil {
			err = s.panicked(p)
		}
		s.cache.metrics.Ended.WithLabelValues(figures.Reason(err)).Inc()
	}()
	who, err := s.opener.Identify(ss.Context())
	if err != nil {
		return wire.AsStatus(err)
	}
	pass, err := s.gate.Admit(ss.Context(), who.ID, admit.AddressOf(ss.Context()))
	if err != nil {
		return err
	}
	defer pass.Leave()
	return wire.AsStatus(s.cfg.StateOfTheWorld(ss))
}

// Options are what the engine needs of a gRPC server: see [wire.Options].
func Options(maxAge time.Duration) []grpc.ServerOption { return wire.Options(maxAge) }

func (s *Server) serve(ss grpc.ServerStream) (err error) {
	st := newStream(s.cache, s.cfg.Log)
	s.cache.metrics.Streams.Inc()
	defer func() {
		if p := recover(); p != nil {
			err = s.panicked(p)
		}
		s.cache.metrics.Streams.Dec()
		s.cache.metrics.Ended.WithLabelValues(figures.Reason(err)).Inc()
		s.diary.Ended(diary.EndOf(ss.Context(), st.nodeID, figures.Reason(err), err), time.Since(st.opened), err)
	}()
	first, opened, pass, err := s.open(ss, st)
	if err != nil {
		return err
	}
	defer pass.Leave()
	defer opened.Closed()
	s.cache.attach(opened.View, st)
	defer s.cache.detach(st)
	s.cfg.Log.Info("stream open", "node", st.nodeID, "view", st.viewKey)
	return s.run(ss, st, first, pass)
}

// open reads the first request and finds out what the stream may see. What a
// connection proves is admitted before anything is read from it.
func (s *Server) open(ss grpc.ServerStream, st *Stream) (*wire.Request, Opened, *admit.Pass, error) {
	who, err := s.opener.Identify(ss.Context())
	if err != nil {
		return nil, Opened{}, nil, wire.AsStatus(err)
	}
	pass, err := s.gate.Admit(ss.Context(), who.ID, admit.AddressOf(ss.Context()))
	if err != nil {
		return nil, Opened{}, nil, err
	}
	first, o, err := s.identify(ss, st, who)
	if err != nil {
		pass.Leave()
		return nil, o, nil, err
	}
	return first, o, pass, nil
}

// identify holds the first request against what the connection proved.
func (s *Server) identify(ss grpc.ServerStream, st *Stream, who Peer) (*wire.Request, Opened, error) {
	first, node := &wire.Request{}, &corev3.Node{}
	if err := wire.Receive(ss, first); err != nil {
		return nil, Opened{}, err
	}
	if first.Node == nil || proto.Unmarshal(first.Node, node) != nil {
		return nil, Opened{}, status.Error(codes.InvalidArgument, "the first request of a stream must carry the node, well formed")
	}
	if who == (Peer{}) {
		who = Peer{node.GetId(), node.GetCluster()}
	}
	if err := wire.CheckNode(first, who.ID, who.Cluster); err != nil {
		return nil, Opened{}, err
	}
	st.nodeID, st.cluster = who.ID, who.Cluster
	st.claim = who
	o, err := s.opener.Open(ss.Context(), node, st)
	st.rename(o.Known)
	return first, o, wire.AsStatus(err)
}

// run reads and writes in goroutines of their own, so that a client that does
// not read can be got rid of: only the return of the handler ends a stream.
func (s *Server) run(ss grpc.ServerStream, st *Stream, first *wire.Request, pass *admit.Pass) error {
	ended := make(chan error, 3)
	guard := func(f func() error) {
		defer func() {
			if p := recover(); p != nil {
				ended <- s.panicked(p)
			}
		}()
		ended <- f()
	}
	go guard(func() error { return receiveAll(ss, st, first) })
	stalled := make(chan struct{})
	go guard(func() error { return s.sendAll(ss, st, stalled) })
	select {
	case err := <-ended:
		if errors.Is(err, io.EOF) {
			return nil // the client has left
		}
		return err
	case <-stalled:
		return status.Errorf(codes.DeadlineExceeded, "the client read nothing for %v", s.cfg.SendTimeout)
	case <-pass.Over():
		return status.Error(codes.Aborted, "newer streams of this node have taken the place of this one")
	case <-s.closing:
		return status.Error(codes.Unavailable, "the control plane is stopping")
	}
}

func receiveAll(ss grpc.ServerStream, st *Stream, r *wire.Request) error {
	node := r.Sum
	for {
		if err := wire.CheckNode(r, st.claim.ID, st.claim.Cluster); err != nil {
			return err
		}
		if err := st.handle(r); errors.Is(err, errNoCollections) {
			return status.Error(codes.Aborted, err.Error())
		} else if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		*r = wire.Request{Known: node}
		if err := wire.Receive(ss, r); err != nil {
			return err
		}
	}
}

func (s *Server) sendAll(ss grpc.ServerStream, st *Stream, stalled chan<- struct{}) error {
	var once sync.Once
	deadline := time.AfterFunc(s.cfg.SendTimeout, func() { once.Do(func() { close(stalled) }) })
	deadline.Stop()
	defer deadline.Stop()
	again := time.NewTimer(books.Patience)
	defer again.Stop()
	for {
		select {
		case <-ss.Context().Done():
			return status.FromContextError(ss.Context().Err()).Err()
		case <-st.wake:
		case <-again.C:
		}
		frames, more := st.collect()
		for _, f := range frames {
			deadline.Reset(s.cfg.SendTimeout)
			if err := ss.SendMsg(f.frame); err != nil {
				return err
			}
			deadline.Stop()
			s.cache.metrics.Sent(f.kind, f.frame.Size(), f.shared)
		}
		st.idle()
		if again.Stop(); more {
			again.Reset(books.Patience)
		}
	}
}

func (s *Server) panicked(p any) error {
	s.cache.metrics.Panics.Inc()
	s.cfg.Log.Error("a stream ended by a panic", "panic", p, "stack", string(debug.Stack()))
	return status.Error(codes.Internal, "the control plane has a fault; the stream was ended")
}

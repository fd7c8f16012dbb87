package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"patchbay/xds/delta"
	"patchbay/xds/delta/admit"
	"patchbay/xds/sotw"
)

// ServerConfig of a [Server].
type ServerConfig struct {
	Log *slog.Logger
	// Creds are mutual TLS of the control channel. Nil is plain text.
	Creds credentials.TransportCredentials
	// Interceptors see every stream before the engine does.
	Interceptors []grpc.StreamServerInterceptor
	// MaxAge of a connection, ±10 %; then its Envoy connects again, maybe to
	// another replica. 0: no limit.
	MaxAge time.Duration
	// StateOfTheWorld also serves that variant of ADS, for clients that do not
	// speak the incremental one.
	StateOfTheWorld bool
	// SendTimeout ends a stream whose client reads nothing. 0: 30 s.
	SendTimeout time.Duration
	// Admit limits the streams that may open; zero fields take the defaults.
	Admit admit.Limits
}

// Server is the control plane's ADS port. The aggregated service is all that is
// registered on it.
type Server struct {
	grpc   *grpc.Server
	engine *delta.Server
	open   bool // whoever connects is served
}

// stopTime is how long a stopping server waits for its streams to end.
const stopTime = 3 * time.Second

// NewServer returns the server of a pusher.
func NewServer(p *Pusher, cfg ServerConfig) *Server {
	return newServer(p, p, cfg, p.identify == nil || cfg.Creds == nil)
}

func newServer(p *Pusher, opener delta.Opener, cfg ServerConfig, open bool) *Server {
	opts := delta.Options(cfg.MaxAge)
	if cfg.Creds != nil {
		opts = append(opts, grpc.Creds(cfg.Creds))
	}
	opts = append(opts, grpc.ChainStreamInterceptor(cfg.Interceptors...))
	engine := delta.Config{Log: cfg.Log, SendTimeout: cfg.SendTimeout, Admit: cfg.Admit}
	if cfg.StateOfTheWorld {
		other := sotw.New(p.cache, opener, cfg.Log)
		engine.StateOfTheWorld = func(ss grpc.ServerStream) error {
			return other.Serve(&grpc.GenericServerStream[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]{ServerStream: ss})
		}
	}
	s := &Server{
		grpc:   grpc.NewServer(opts...),
		engine: delta.NewServer(p.cache, opener, engine),
		open:   open,
	}
	s.engine.Register(s.grpc)
	return s
}

// Run serves lis until ctx ends, then tells the streams to come back and
// returns the context's cause. A server without authentication refuses a
// listener that others than this machine could reach. It can run once.
func (s *Server) Run(ctx context.Context, lis net.Listener) error {
	if s.open && !local(lis.Addr()) {
		lis.Close()
		return fmt.Errorf("serve xDS on %s: without mutual TLS only a loopback address or a Unix socket is allowed", lis.Addr())
	}
	stop := context.AfterFunc(ctx, func() {
		s.engine.Close()
		hard := time.AfterFunc(stopTime, s.grpc.Stop)
		defer hard.Stop()
		s.grpc.GracefulStop()
	})
	err := s.grpc.Serve(lis)
	if stop() {
		return fmt.Errorf("serve xDS on %s: %w", lis.Addr(), err)
	}
	s.grpc.GracefulStop() // returns when the streams are gone
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve xDS on %s: %w", lis.Addr(), err)
	}
	return context.Cause(ctx)
}

func local(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return a.Network() == "bufconn"
}

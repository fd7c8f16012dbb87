package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

func newServe() *cobra.Command {
	host, _ := os.Hostname()
	var name, httpAddr, h2Addr, grpcAddr, tcpAddr string
	c := &cobra.Command{
		Use: "serve", Short: "Listen; each answer names the server that gave it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			g, ctx := errgroup.WithContext(c.Context())
			for _, s := range []struct {
				addr  string
				serve func(context.Context, net.Listener, string) error
			}{{httpAddr, serveHTTP1}, {h2Addr, serveHTTP2}, {grpcAddr, serveGRPC}, {tcpAddr, serveTCP}} {
				if s.addr == "" {
					continue
				}
				l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.addr)
				if err != nil {
					return fmt.Errorf("listen: %w", err)
				}
				g.Go(func() error { return s.serve(ctx, l, name) })
			}
			return g.Wait()
		},
	}
	c.Flags().StringVar(&name, "name", host, "how this server calls itself in its answers")
	c.Flags().StringVar(&httpAddr, "http", "", "address for HTTP/1.1 (path /slow?ms=N waits, /status?code=N answers N, POST echoes)")
	c.Flags().StringVar(&h2Addr, "http2", "", "address for HTTP/2 in plain text")
	c.Flags().StringVar(&grpcAddr, "grpc", "", "address for gRPC (grpc.health.v1.Health)")
	c.Flags().StringVar(&tcpAddr, "tcp", "", "address for TCP: the server speaks first, then echoes lines")
	return c
}

func handler(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.URL.Query().Get("ms"))
		select {
		case <-time.NewTimer(time.Duration(ms) * time.Millisecond).C:
		case <-r.Context().Done():
		}
		fmt.Fprintln(w, name)
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.URL.Query().Get("code"))
		if err != nil || code < 200 || code > 599 {
			code = http.StatusBadRequest
		}
		w.WriteHeader(code)
		fmt.Fprintln(w, name)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Served-By", name)
		w.Header().Set("X-Proto", r.Proto)
		if r.Method == http.MethodPost {
			io.Copy(w, r.Body)
			return
		}
		fmt.Fprintln(w, name)
	})
	return mux
}

func serveHTTP1(ctx context.Context, l net.Listener, name string) error {
	return serveWeb(ctx, l, &http.Server{Handler: handler(name), ReadHeaderTimeout: 10 * time.Second})
}

func serveHTTP2(ctx context.Context, l net.Listener, name string) error {
	s := &http.Server{Handler: handler(name), ReadHeaderTimeout: 10 * time.Second, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	return serveWeb(ctx, l, s)
}

// serveWeb stops accepting when ctx ends and lets requests finish.
func serveWeb(ctx context.Context, l net.Listener, s *http.Server) error {
	defer context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		s.Shutdown(grace)
	})()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type health struct {
	grpc_health_v1.UnimplementedHealthServer
	name string
}

func (h health) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	grpc.SetTrailer(ctx, metadata.Pairs("served-by", h.name))
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func serveGRPC(ctx context.Context, l net.Listener, name string) error {
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, health{name: name})
	defer context.AfterFunc(ctx, s.GracefulStop)()
	return s.Serve(l)
}

func serveTCP(ctx context.Context, l net.Listener, name string) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go func() {
			defer c.Close()
			fmt.Fprintln(c, name)
			for r := bufio.NewScanner(c); r.Scan(); {
				fmt.Fprintln(c, r.Text())
			}
		}()
	}
}

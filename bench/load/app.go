// Package load is the application that is called, and what calls it: an open
// loop at a fixed rate, and ordinary tools for saturation.
//
// It must not know what is between the two. Start reading at [Open] and
// [Saturate].
package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// BodySize is the size of every answer, and of what is sent where the protocol
// echoes.
const BodySize = 1024

// grpcPath is the method that the load calls; the application echoes whatever
// method is called.
const grpcPath = "/bench.Echo/Echo"

// Protocols in the order of measuring.
var Protocols = []string{"http", "http2", "grpc", "tcp"}

// Ports are where an application listens, by protocol: http, http2, grpc, tcp.
type Ports map[string]uint16

// Serve is the application process. It answers HTTP/1.1 and HTTP/2 with
// [BodySize] bytes, and echoes gRPC messages and TCP bytes. It tells its ports
// as one JSON line and serves until ctx ends.
func Serve(ctx context.Context, out io.Writer) error {
	g, ctx := errgroup.WithContext(ctx)
	told := Ports{}
	for _, s := range []struct {
		protocols []string
		serve     func(context.Context, net.Listener) error
	}{{[]string{"http", "http2"}, serveHTTP}, {[]string{"grpc"}, serveGRPC}, {[]string{"tcp"}, serveTCP}} {
		lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		for _, p := range s.protocols {
			told[p] = uint16(lis.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port
		}
		g.Go(func() error { return s.serve(ctx, lis) })
	}
	if err := json.NewEncoder(out).Encode(told); err != nil {
		return err
	}
	return g.Wait()
}

func serveHTTP(ctx context.Context, lis net.Listener) error {
	body := []byte(strings.Repeat("x", BodySize))
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Protocols: &http.Protocols{}, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write(body) //nolint:errcheck // the client has gone
	})}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	defer context.AfterFunc(ctx, func() { s.Close() })()
	return ended(ctx, s.Serve(lis))
}

// bytesCodec leaves gRPC messages as they are.
type bytesCodec struct{ encoding.CodecV2 }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (bytesCodec) Name() string { return "proto" }

func serveGRPC(ctx context.Context, lis net.Listener) error {
	s := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
		var m []byte
		if err := ss.RecvMsg(&m); err != nil {
			return err
		}
		return ss.SendMsg(&m)
	}))
	defer context.AfterFunc(ctx, s.Stop)()
	return ended(ctx, s.Serve(lis))
}

func serveTCP(ctx context.Context, lis net.Listener) error {
	defer context.AfterFunc(ctx, func() { lis.Close() })()
	for {
		conn, err := lis.Accept()
		if err != nil {
			return ended(ctx, err)
		}
		go func() {
			defer conn.Close()
			buf := make([]byte, 16<<10)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				if _, err := conn.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // a clean stop
	}
	return fmt.Errorf("the application: %w", err)
}

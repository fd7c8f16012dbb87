package join

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
)

// Addresses are the agent ports of the control plane's replicas, HOST:PORT, in
// the order in which they are tried. It is safe for concurrent use.
type Addresses struct {
	all   []string
	mu    sync.Mutex
	order []string
}

// NewAddresses takes at least one.
func NewAddresses(all ...string) *Addresses { return &Addresses{all: all, order: all} }

// String is all of them, separated by commas.
func (a *Addresses) String() string { return strings.Join(a.all, ",") }

// Dial is a client of the first that takes a connection. One that does not
// refuses it, or is passed over after a quarter of a second (gRPC's pick_first).
// A replica that has both families is connected to by IPv4: that is then the
// address with which a task is registered, and others may have IPv4 alone.
func (a *Addresses) Dial(options ...grpc.DialOption) (*grpc.ClientConn, error) {
	a.mu.Lock()
	var s resolver.State
	for _, addr := range a.order {
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr}}})
	}
	a.mu.Unlock()
	r := manual.NewBuilderWithScheme("replicas")
	r.InitialState(s)
	options = append([]grpc.DialOption{grpc.WithContextDialer(ipv4First)}, options...)
	return grpc.NewClient(r.Scheme()+":///control", append(options, grpc.WithResolvers(r), grpc.WithNoProxy(), grpc.WithDisableServiceConfig())...)
}

// Failed learns from the end of a call. After one that a replica could not
// answer, though it took the connection, the next is tried first.
func (a *Addresses) Failed(err error) {
	code := status.Code(err)
	if code != codes.Unavailable && code != codes.DeadlineExceeded && !errors.Is(err, io.EOF) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.order = append(a.order[1:len(a.order):len(a.order)], a.order[0])
}

// Swapped says of a call's error, after "; ", that it looks like an answer of the
// control plane's other port; else it is empty. The port of the Envoys lets no
// caller in without a certificate, and knows none of the agents' services.
func Swapped(err error) string {
	text := err.Error()
	if strings.Contains(text, "tls: certificate required") || strings.Contains(text, "unknown service patchbay.agent.") {
		return "; this looks like the control plane's xDS port: are --xds and --agent swapped?"
	}
	return ""
}

// headStart is how long IPv6 waits for IPv4 to answer: as long as Go's dialer
// has the second family wait (RFC 8305 advises no less than 100 ms).
const headStart = 300 * time.Millisecond

// ipv4First connects by IPv4, and by IPv6 where that fails or takes too long.
func ipv4First(ctx context.Context, addr string) (net.Conn, error) {
	return inTurn(ctx, addr, new(net.Dialer).DialContext)
}

// inTurn tries the networks tcp4 and tcp6. Of two errors it returns the one that
// says more.
func inTurn(ctx context.Context, addr string, dialer func(ctx context.Context, network, addr string) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type end struct {
		conn net.Conn
		err  error
	}
	ends := make(chan end, 2)
	dial := func(network string) {
		conn, err := dialer(ctx, network, addr)
		ends <- end{conn, err}
	}
	late := time.NewTimer(headStart)
	defer late.Stop()
	go dial("tcp4")
	var failed error
	for running, both := 1, false; running > 0; {
		select {
		case e := <-ends:
			running--
			if e.err == nil {
				if running > 0 {
					go func() { // the other may have come as well
						if e := <-ends; e.err == nil {
							e.conn.Close()
						}
					}()
				}
				return e.conn, nil
			}
			if _, none := errors.AsType[*net.AddrError](failed); failed == nil || none {
				failed = e.err
			}
		case <-late.C:
		}
		if !both {
			both = true
			running++
			go dial("tcp6")
		}
	}
	return nil, failed
}

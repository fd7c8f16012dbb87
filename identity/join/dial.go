package join

import (
	"errors"
	"io"
	"strings"
	"sync"

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
func (a *Addresses) Dial(options ...grpc.DialOption) (*grpc.ClientConn, error) {
	a.mu.Lock()
	var s resolver.State
	for _, addr := range a.order {
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr}}})
	}
	a.mu.Unlock()
	r := manual.NewBuilderWithScheme("replicas")
	r.InitialState(s)
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

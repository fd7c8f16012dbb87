package model

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"patchbay/bench"
)

// client is one Envoy, as far as a control plane can tell: it asks in Envoy's
// order, accepts everything, and remembers versions.
type client struct {
	fleet  *fleet
	number int
	warm   bool
	ctx    context.Context //nolint:containedctx // it ends the client
	cancel context.CancelFunc
	gate   *gate
	ended  chan struct{}
	stream grpc.ClientStream
	conn   *grpc.ClientConn

	asked [kinds]bool
	have  [kinds]int // resources received; of a warm client, responses
	whole bool

	collections map[string]bool // asked for

	bad   atomic.Bool // it misbehaves
	nacks atomic.Bool // it rejects endpoints
	armed atomic.Bool
	at    atomic.Int64

	in, out, responses atomic.Int64
}

func newClient(ctx context.Context, f *fleet, number int, warm bool) *client {
	ctx, cancel := context.WithCancel(ctx)
	return &client{fleet: f, number: number, warm: warm, ctx: ctx, cancel: cancel, gate: &gate{}, ended: make(chan struct{})}
}

func (c *client) run() {
	defer close(c.ended)
	err := c.talk()
	if c.ctx.Err() == nil {
		select {
		case c.fleet.failed <- fmt.Errorf("client %d: %w", c.number, err):
		default:
		}
	}
}

func (c *client) close() {
	c.gate.set(false)
	c.cancel()
	<-c.ended
	if c.conn != nil {
		c.conn.Close()
	}
}

func (c *client) misbehave(kind string, yes bool) {
	c.bad.Store(yes)
	c.nacks.Store(yes && kind == "nack")
	c.gate.set(yes && kind == "slow")
}

func (c *client) talk() (err error) {
	// The windows are Envoy's, which never change.
	c.conn, err = grpc.NewClient("passthrough:///"+c.fleet.address, grpc.WithTransportCredentials(c.fleet.creds(c.number)),
		grpc.WithStaticStreamWindowSize(16<<20), grpc.WithStaticConnWindowSize(24<<20), grpc.WithContextDialer(c.gate.dial))
	if err != nil {
		return err
	}
	c.stream, err = c.conn.NewStream(c.ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName, grpc.ForceCodecV2(newCodec()))
	if err != nil {
		return err
	}
	if err := c.begin(); err != nil {
		return err
	}
	var m message
	for {
		if c.number == 0 {
			m.held = map[string]string{}
		}
		if err := c.stream.RecvMsg(&m); err != nil {
			return err
		}
		now := bench.Mono()
		if err := c.answer(&m); err != nil {
			return err
		}
		if (m.kind == eds || m.kind == leds) && c.armed.CompareAndSwap(true, false) {
			c.at.Store(now)
			c.fleet.one()
		}
	}
}

// begin sends the first request: a cold client's is for clusters, a warm one's
// are for everything that it holds.
func (c *client) begin() error {
	node := c.fleet.nodes[c.number]
	if !c.warm {
		c.asked[cds] = true
		return c.send(slices.Concat(node, c.fleet.first[cds]))
	}
	for k, r := range c.fleet.irv {
		if r == nil {
			continue
		}
		if kind(k) == cds {
			r = slices.Concat(node, r) // fields of one message may follow each other
		}
		c.asked[k] = true
		if err := c.send(r); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) send(r raw) error {
	c.out.Add(int64(len(r)))
	return c.stream.SendMsg(r)
}

// answer accepts a response, or rejects it, and asks for what it leads to.
func (c *client) answer(m *message) error {
	c.in.Add(int64(m.size))
	c.responses.Add(1)
	if m.kind < 0 {
		return fmt.Errorf("a response of a type that was not asked for")
	}
	if c.number == 0 && m.kind != leds {
		maps.Copy(c.fleet.held[m.kind], m.held)
	}
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[m.kind], ResponseNonce: m.nonce}
	if (m.kind == eds || m.kind == leds) && c.nacks.Load() {
		r.ErrorDetail = &statusv3.Status{Code: int32(codes.InvalidArgument), Message: "a model client rejects this"}
	}
	if err := c.send(encode(r)); err != nil {
		return err
	}
	if err := c.collect(m); err != nil {
		return err
	}
	return c.progress(m)
}

// collect subscribes to collections that the client does not have yet. (It does
// not unsubscribe from those that were replaced: nobody sends them any more.)
func (c *client) collect(m *message) error {
	var fresh []string
	for _, name := range m.collections {
		if c.collections[name] {
			continue
		}
		if c.collections == nil {
			c.collections = map[string]bool{}
		}
		c.collections[name] = true
		fresh = append(fresh, name)
		if c.number == 0 {
			c.fleet.held[leds][name] = ""
		}
	}
	if fresh == nil {
		return nil
	}
	c.asked[leds] = true
	return c.send(encode(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[leds], ResourceNamesSubscribe: fresh}))
}

// progress asks in the order of a starting Envoy: the endpoints of the clusters
// that came, their members if they are collections, listeners when these are
// there, then their routes.
func (c *client) progress(m *message) error {
	if c.whole {
		return nil
	}
	n, members := c.fleet.shape.Services, 0
	if c.have[m.kind] += m.resources; c.warm {
		c.have[m.kind] = max(n, c.have[m.kind])
		c.have[eds], c.have[rds] = n, n // about what is known there is no answer
	}
	if c.asked[leds] {
		members = n * c.fleet.shape.Endpoints
	}
	for k := cds; k < rds && !c.warm; k++ {
		if c.have[k] < n || c.asked[k+1] || k == eds && c.have[leds] < members {
			continue
		}
		c.asked[k+1] = true
		if err := c.send(c.fleet.first[k+1]); err != nil {
			return err
		}
	}
	if slices.Min(c.have[:leds]) >= n && c.have[leds] >= members {
		c.whole = true
		c.fleet.one()
	}
	return nil
}

// gate makes a client stop reading from its connection, as an Envoy does whose
// main thread is stuck.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // closed when reading goes on; nil if it does
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case shut && g.shut == nil:
		g.shut = make(chan struct{})
	case !shut && g.shut != nil:
		close(g.shut)
		g.shut = nil
	}
}

func (g *gate) pass() {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil {
		<-shut
	}
}

func (g *gate) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	return gated{conn, g}, err
}

type gated struct {
	net.Conn
	*gate
}

func (c gated) Read(b []byte) (int, error) {
	c.pass()
	n, err := c.Conn.Read(b)
	c.pass() // it may have been shut while waiting
	return n, err
}

// Package admit decides which streams may open, and when.
//
// It owns the limits against connect storms and against one identity or
// address taking everything. It must not know what a stream carries. Start
// reading at [Gate.Admit].
package admit

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Limits of a [Gate]. A zero field takes the default.
type Limits struct {
	// Rate is how many streams a second may open after the first Burst. A cold
	// stream costs about a millisecond of CPU; the defaults (200, 400) leave
	// half of a small machine to the streams that are there.
	Rate  float64
	Burst int
	// Wait is how long a stream may wait for its turn (5 s). One that would
	// wait longer is refused at once and told to come back.
	Wait time.Duration
	// PerIdentity is how many streams one identity may have (4): beyond it the
	// oldest ends, for it may be one whose connection died unnoticed.
	PerIdentity int
	// PerAddress is how many streams may come from one address (1,000), which
	// may be that of a machine with many tasks. Loopback has no limit.
	PerAddress int
}

// Gate lets streams in. It is safe for concurrent use.
type Gate struct {
	limits Limits
	bucket *rate.Limiter
	calm   *calm

	mu     sync.Mutex
	byID   map[string][]*Pass // oldest first
	byAddr map[netip.Addr]int
}

// Pass is a stream that was let in.
type Pass struct {
	gate *Gate
	id   string
	addr netip.Addr
	over chan struct{}
}

// New returns a gate.
func New(l Limits) *Gate {
	or := func(n *int, d int) {
		if *n == 0 {
			*n = d
		}
	}
	if l.Rate == 0 {
		l.Rate = 200
	}
	if l.Wait == 0 {
		l.Wait = 5 * time.Second
	}
	or(&l.Burst, 400)
	or(&l.PerIdentity, 4)
	or(&l.PerAddress, 1000)
	return &Gate{limits: l, bucket: rate.NewLimiter(rate.Limit(l.Rate), l.Burst), calm: newCalm(), byID: map[string][]*Pass{}, byAddr: map[netip.Addr]int{}}
}

// Admit waits for the stream's turn. id is what the connection proved; empty
// has no limit of its own. addr may be invalid (a Unix socket). The error is a
// gRPC status. Whoever got a pass must Leave.
func (g *Gate) Admit(ctx context.Context, id string, addr netip.Addr) (*Pass, error) {
	turn := g.bucket.Reserve()
	if d := turn.Delay(); d > g.limits.Wait {
		turn.Cancel()
		return nil, status.Errorf(codes.ResourceExhausted, "too many streams open at once: come back in %v", d.Round(time.Second))
	} else if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			turn.Cancel()
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	g.calm.another()
	g.mu.Lock()
	defer g.mu.Unlock()
	p := &Pass{gate: g, id: id, addr: addr.Unmap(), over: make(chan struct{})}
	if p.limited() {
		if n := g.byAddr[p.addr]; n >= g.limits.PerAddress {
			return nil, status.Errorf(codes.ResourceExhausted, "%d streams are open from %s; allowed are %d", n, p.addr, g.limits.PerAddress)
		}
		g.byAddr[p.addr]++
	}
	if id != "" {
		if all := g.byID[id]; len(all) >= g.limits.PerIdentity {
			close(all[0].over)
			g.byID[id] = all[1:]
		}
		g.byID[id] = append(g.byID[id], p)
	}
	return p, nil
}

func (p *Pass) limited() bool { return p.addr.IsValid() && !p.addr.IsLoopback() }

// Over is closed when newer streams of the identity have taken this one's
// place.
func (p *Pass) Over() <-chan struct{} { return p.over }

// Leave gives the place back.
func (p *Pass) Leave() {
	g := p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.limited() {
		if g.byAddr[p.addr]--; g.byAddr[p.addr] == 0 {
			delete(g.byAddr, p.addr)
		}
	}
	for i, q := range g.byID[p.id] {
		if q == p {
			g.byID[p.id] = append(g.byID[p.id][:i:i], g.byID[p.id][i+1:]...)
			break
		}
	}
	if len(g.byID[p.id]) == 0 {
		delete(g.byID, p.id)
	}
}

// AddressOf is where a call comes from. It is invalid for a Unix socket.
func AddressOf(ctx context.Context) netip.Addr {
	if p, ok := peer.FromContext(ctx); ok {
		if a, err := netip.ParseAddrPort(p.Addr.String()); err == nil {
			return a.Addr()
		}
	}
	return netip.Addr{} // a Unix socket, or a test's listener
}

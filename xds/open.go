package xds

import (
	"context"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/claim"
	"patchbay/xds/delta"
	"patchbay/xds/leds"
	"patchbay/xds/valid"
	"patchbay/xds/views"
)

var _ delta.Opener = (*Pusher)(nil)

// Identify implements [delta.Opener]: the node that the connection proves.
func (p *Pusher) Identify(ctx context.Context) (delta.Peer, error) {
	if p.identify == nil {
		return delta.Peer{}, nil
	}
	n, err := p.identify(ctx)
	if err != nil {
		return delta.Peer{}, status.Error(codes.Unauthenticated, err.Error())
	}
	return delta.Peer{ID: n.ID(), Cluster: n.Workload.String()}, nil
}

// Open implements [delta.Opener].
func (p *Pusher) Open(ctx context.Context, envoy *corev3.Node, s *delta.Stream) (delta.Opened, error) {
	c, err := claim.Read(envoy)
	if err != nil {
		return delta.Opened{}, err
	}
	if c.Who, err = p.who(ctx, envoy, c.Meta); err != nil {
		return delta.Opened{}, err
	}
	return p.enter(ctx, c, s)
}

// enter gives a stream its view and its private entries. It waits until the
// node's namespace has been read in full, so that a cold control plane takes
// nothing away from a sidecar that comes back.
func (p *Pusher) enter(ctx context.Context, c claim.Claim, s *delta.Stream) (delta.Opened, error) {
	if err := p.synced(ctx, c.Who); err != nil {
		return delta.Opened{}, err
	}
	p.identified(ctx, c)
	collections := p.leds != leds.Off && c.Collections && s.TakesCollections()
	p.mu.Lock()
	defer p.mu.Unlock()
	snap := p.store.Snapshot()
	key := views.Of(c.Who.Workload.Namespace, c.Meta)
	key.Hidden = snap.Hidden(c.Who.Workload)
	if key.Proxyless = c.Proxyless; c.Proxyless {
		key.Wiring = ""
	}
	key.Region = c.Region
	if key.Tracing = p.tracing; p.tracing != (views.Tracing{}) && !c.Proxyless {
		key.Tracing.Service = c.Who.Workload.Name + "." + c.Who.Workload.Namespace
	}
	key.Collections = collections
	identified := c.Proxyless || has(snap, c.Who.Workload) || !validCaller(c.Who.Workload)
	key = p.place(key, identified)
	v := p.views[key]
	if v == nil {
		v = newView(key, p.leds)
		v.counted = p.crowds
		p.views[key] = v
	}
	alone := p.kind(v, c)
	n := &node{Node: c.Who, view: v, identity: p.identity, lacks: !identified, zone: alone, meta: c.Meta, leaves: map[mesh.ServiceName]*mesh.Leaf{}, sent: map[delta.Ref]*delta.Entry{}, withheld: valid.Book{}}
	if n.lacks {
		v.lacking++
	}
	p.nodes[s] = n
	s.SetPrivate(n.private(snap, p.log))
	p.show(v, snap, nil)
	v.users++
	return delta.Opened{View: v.key, Closed: func() { p.closed(s, v) }}, nil
}

// kind has the view show a sidecar in a known zone how its like are spread. It
// returns the zone if the sidecar is one of a crowd. p.mu is held.
func (p *Pusher) kind(v *view, c claim.Claim) (zone string) {
	if c.Zone == "" || c.Proxyless || c.Meta.AWS != nil || c.Meta.Wiring == mesh.NoEgress {
		return ""
	}
	if own, ok := c.Meta.LocalService(c.Who.Workload.Namespace); ok {
		v.want(own)
		return ""
	}
	if w := c.Who.Workload.String(); v.crowds[w] == nil {
		v.crowds[w], v.asked = map[string]int{}, true
	}
	p.count(c.Who.Workload, c.Zone, 1)
	return c.Zone
}

func (p *Pusher) closed(s *delta.Stream, v *view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.nodes[s]; n != nil {
		p.count(n.Workload, n.zone, -1)
		if n.lacks {
			v.lacking--
		}
	}
	delete(p.nodes, s)
	if v.users--; v.users == 0 {
		v.left = time.Now()
	}
}

// who is the node behind a stream. Its metadata may ask only for ports of
// services that its workload offers; nothing else is taken from it.
func (p *Pusher) who(ctx context.Context, envoy *corev3.Node, meta bootstrap.NodeMeta) (mesh.Node, error) {
	if p.identify == nil {
		return claim.Unproved(envoy, meta)
	}
	n, err := p.identify(ctx)
	if err != nil {
		return n, status.Error(codes.Unauthenticated, err.Error())
	}
	return n, claim.MayOffer(n, meta)
}

func (p *Pusher) synced(ctx context.Context, n mesh.Node) error {
	for told := false; ; told = true {
		snap := p.store.Snapshot()
		if snap.Synced[n.Workload.Namespace] {
			return nil
		}
		if !told {
			p.log.Info("a stream waits for its namespace to be read", "node", n.ID(), "namespace", n.Workload.Namespace)
		}
		select {
		case <-p.store.Changed(snap.Generation):
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

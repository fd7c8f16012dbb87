package xds

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
	"patchbay/xds/leds"
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
	e := entrance{proxyless: isProxyless(envoy), zone: zoneIn(envoy)}
	var err error
	if e.meta, err = metaOf(envoy); err != nil {
		return delta.Opened{}, err
	}
	if e.who, err = p.who(ctx, envoy, e.meta); err != nil {
		return delta.Opened{}, err
	}
	e.collections = takesCollections(envoy) && s.TakesCollections()
	return p.enter(ctx, e, s)
}

// entrance is who opens a stream, and what kind of client it is.
type entrance struct {
	who         mesh.Node
	meta        bootstrap.NodeMeta
	proxyless   bool
	collections bool   // it can take them
	zone        string // empty: not known
	region      string
}

// enter gives a stream its view and its private entries. It waits until the
// node's namespace has been read in full, so that a cold control plane takes
// nothing away from a sidecar that comes back.
func (p *Pusher) enter(ctx context.Context, e entrance, s *delta.Stream) (delta.Opened, error) {
	if err := p.synced(ctx, e.who); err != nil {
		return delta.Opened{}, err
	}
	p.identified(ctx, e)
	p.mu.Lock()
	defer p.mu.Unlock()
	snap := p.store.Snapshot()
	key := views.Of(e.who.Workload.Namespace, e.meta)
	key.Hidden = snap.Hidden(e.who.Workload)
	if key.Proxyless = e.proxyless; e.proxyless {
		key.Wiring = ""
	}
	key.Region = e.region
	if key.Tracing = p.tracing; p.tracing != (views.Tracing{}) && !e.proxyless {
		key.Tracing.Service = e.who.Workload.Name + "." + e.who.Workload.Namespace
	}
	key.Collections = p.leds != leds.Off && e.collections
	identified := e.proxyless || has(snap, e.who.Workload) || !validCaller(e.who.Workload)
	key = p.place(key, identified)
	v := p.views[key]
	if v == nil {
		v = newView(key, p.leds)
		v.counted = p.crowds
		p.views[key] = v
	}
	alone := p.kind(v, e)
	n := &node{Node: e.who, view: v, identity: p.identity, lacks: !identified, zone: alone, meta: e.meta, leaves: map[mesh.ServiceName]*mesh.Leaf{}, sent: map[delta.Ref]*delta.Entry{}, withheld: withheld{}}
	if n.lacks {
		v.lacking++
	}
	p.nodes[s] = n
	s.SetPrivate(n.private(snap, p.log))
	p.show(v, snap, nil)
	v.users++
	return delta.Opened{View: v.key, Closed: func() { p.closed(s, v) }}, nil
}

// takesCollections reports whether an Envoy is one on which LEDS was tested:
// 1.40 or newer.
func takesCollections(n *corev3.Node) bool {
	v := n.GetUserAgentBuildVersion().GetVersion()
	return n.GetUserAgentName() == "envoy" && (v.GetMajorNumber() > 1 || v.GetMajorNumber() == 1 && v.GetMinorNumber() >= 40)
}

// kind has the view show a sidecar in a known zone how its like are spread. It
// returns the zone if the sidecar is one of a crowd. p.mu is held.
func (p *Pusher) kind(v *view, e entrance) (zone string) {
	if e.zone == "" || e.proxyless || e.meta.AWS != nil || e.meta.Wiring == mesh.NoEgress {
		return ""
	}
	if own, ok := e.meta.LocalService(e.who.Workload.Namespace); ok {
		v.want(own)
		return ""
	}
	if w := e.who.Workload.String(); v.crowds[w] == nil {
		v.crowds[w], v.asked = map[string]int{}, true
	}
	p.count(e.who.Workload, e.zone, 1)
	return e.zone
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
		return claimed(envoy, meta)
	}
	n, err := p.identify(ctx)
	if err != nil {
		return n, status.Error(codes.Unauthenticated, err.Error())
	}
	return n, mayOffer(n, meta)
}

func mayOffer(n mesh.Node, meta bootstrap.NodeMeta) error {
	var foreign []string
	for _, port := range meta.Ports {
		if name := (mesh.ServiceName{Namespace: n.Workload.Namespace, DiscoveryName: port.DiscoveryName}); !n.Workload.Offers(name) {
			foreign = append(foreign, fmt.Sprintf("port %s is one of %s", port.PortName, name))
		}
	}
	if foreign != nil {
		return status.Errorf(codes.PermissionDenied, "workload %s may offer %q only: %s", n.Workload, n.Workload.DiscoveryNames, strings.Join(foreign, "; "))
	}
	return nil
}

// claimed believes a node: "namespace/workload/task" of "namespace/workload",
// offering what it says.
func claimed(envoy *corev3.Node, meta bootstrap.NodeMeta) (mesh.Node, error) {
	parts := strings.Split(envoy.GetId(), "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || !mesh.ValidTask(parts[2]) || envoy.GetCluster() != parts[0]+"/"+parts[1] {
		return mesh.Node{}, status.Errorf(codes.InvalidArgument,
			"node.id %q, node.cluster %q; allowed: namespace/workload/task and namespace/workload", envoy.GetId(), envoy.GetCluster())
	}
	n := mesh.Node{Workload: mesh.Workload{Namespace: parts[0], Name: parts[1]}, Task: parts[2]}
	for _, port := range meta.Ports {
		n.Workload.DiscoveryNames = append(n.Workload.DiscoveryNames, port.DiscoveryName)
	}
	return n, nil
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

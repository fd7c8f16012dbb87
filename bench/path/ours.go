package path

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"

	"patchbay/bench"
	"patchbay/bench/load"
	"patchbay/mesh"
	"patchbay/xds"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
)

const namespace = "prod"

// vip is where our callers' Envoys listen for aliases.
var vip = netip.MustParseAddr("127.128.77.1")

// control is our control plane, without authentication, on loopback.
type control struct {
	store *mesh.Store
	ca    *bench.CA
	port  uint16
	stop  func()
	tasks int // started so far
}

func startControl(ctx context.Context, ca *bench.CA) (*control, error) {
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &control{store: mesh.NewStore(), ca: ca, port: uint16(lis.Addr().(*net.TCPAddr).Port)} //nolint:gosec // a port
	log := slog.New(slog.DiscardHandler)
	pusher := xds.NewPusher(c.store, delta.NewCache(nil), nil, log)
	server := xds.NewServer(pusher, xds.ServerConfig{Log: log})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { pusher.Run(ctx) })      //nolint:errcheck // it ends with ctx
	running.Go(func() { server.Run(ctx, lis) }) //nolint:errcheck // likewise
	c.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	c.store.SetBundle(&mesh.Bundle{Issuer: "default", RootsPEM: ca.RootPEM})
	return c, nil
}

// issue gives a service a new leaf.
func (c *control) issue(discoveryName, serial string) error {
	name := mesh.ServiceName{Namespace: namespace, DiscoveryName: discoveryName}
	chain, key, err := c.ca.Issue(name.String())
	if err != nil {
		return err
	}
	c.store.SetLeaf(&mesh.Leaf{Service: name, Issuer: "default", Serial: serial, ChainPEM: chain, KeyPEM: key})
	return nil
}

// offered is a service of each protocol, called after it, of which the ports are
// the endpoints.
func offered(all []bootstrap.Port, aliases map[string]mesh.Alias) []*mesh.Service {
	byName := map[string]*mesh.Service{}
	var out []*mesh.Service
	for _, p := range all {
		s := byName[p.DiscoveryName]
		if s == nil {
			s = &mesh.Service{Name: mesh.ServiceName{Namespace: namespace, DiscoveryName: p.DiscoveryName}, Protocol: p.Protocol, Aliases: []mesh.Alias{aliases[p.DiscoveryName]}}
			if p.TLS != nil {
				s.TLS = &mesh.ServiceTLS{Issuer: p.TLS.Issuer}
			}
			byName[p.DiscoveryName] = s
			out = append(out, s)
		}
		addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.ListenerPort)
		s.Endpoints = append(s.Endpoints, mesh.Endpoint{InstanceID: addr.String(), Addr: addr, Health: mesh.Healthy, Weight: 1, TLS: p.TLS != nil})
	}
	for _, s := range out {
		slices.SortFunc(s.Endpoints, mesh.Endpoint.Compare)
	}
	return out
}

// offers are ports of a task, one for each protocol, in front of the
// application.
func (w *world) offers(tls bool) ([]bootstrap.Port, error) {
	var out []bootstrap.Port
	for _, name := range load.Protocols {
		ingress, err := freePort("0.0.0.0")
		if err != nil {
			return nil, err
		}
		p := bootstrap.Port{PortName: name, DiscoveryName: name, Protocol: mesh.Protocol(name), AppPort: w.ports[name], ListenerPort: ingress}
		if tls {
			p.TLS = &bootstrap.PortTLS{Issuer: "default"}
			if err := w.control.issue(name, "first"); err != nil {
				return nil, err
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// openOurs starts a calling task, and called ones which offer every protocol.
// The route's Envoys are the called ones', then the caller's.
func (w *world) openOurs(ctx context.Context, v variant, called int) (*route, error) {
	r := &route{addresses: map[string]string{}, aliases: map[string]mesh.Alias{}}
	r.stop = func() {
		for _, e := range r.envoys {
			e.stop()
		}
		w.control.store.SetServices(namespace, nil)
	}
	for _, p := range load.Protocols {
		port, err := freePort(vip.String())
		if err != nil {
			return nil, err
		}
		r.aliases[p] = mesh.Alias{DNSName: p, Port: port, VIP: vip}
		r.addresses[p] = netip.AddrPortFrom(vip, port).String()
	}
	tasks := make([][]bootstrap.Port, called, called+1)
	for i := range tasks {
		var err error
		if tasks[i], err = w.offers(v.tls); err != nil {
			return nil, err
		}
	}
	r.offers = slices.Concat(tasks...)
	w.control.store.SetServices(namespace, offered(r.offers, r.aliases))
	for _, offers := range append(tasks, nil) {
		e, err := w.task(ctx, v, offers, r.aliases)
		if err != nil {
			r.stop()
			return nil, err
		}
		r.envoys = append(r.envoys, e)
	}
	if err := r.reached(ctx); err != nil {
		r.stop()
		return nil, errors.Join(err, fmt.Errorf("the caller's Envoy: %s", r.envoys[called].tail()))
	}
	return r, nil
}

// task starts the Envoy of a task. One that offers something has no listeners
// for aliases: all tasks here share one network, and two Envoys of one user
// would share their ports.
func (w *world) task(ctx context.Context, v variant, offers []bootstrap.Port, aliases map[string]mesh.Alias) (*envoy, error) {
	meta := bootstrap.NodeMeta{Version: "bench", Wiring: mesh.Bind, Ports: offers}
	if v.log {
		meta.AccessLog.Format = "JSON"
	}
	workload := "caller"
	if len(offers) > 0 {
		workload = "callee"
		for _, a := range aliases {
			meta.ContainerPorts = append(meta.ContainerPorts, a.Port)
		}
	}
	return w.sidecar(ctx, workload, meta)
}

func (w *world) sidecar(ctx context.Context, workload string, meta bootstrap.NodeMeta) (*envoy, error) {
	dir, admin, err := place(w.Options)
	if err != nil {
		return nil, err
	}
	w.control.tasks++
	meta.Tap = true // as every sidecar has it
	b, err := bootstrap.Config{
		TapSocket: filepath.Join(dir, "tap.sock"),
		NodeID:    fmt.Sprintf("%s/%s/%d", namespace, workload, w.control.tasks), NodeCluster: namespace + "/" + workload,
		Meta: meta, AdminSocket: admin, XDS: []bootstrap.HostPort{{Host: "127.0.0.1", Port: w.control.port}},
	}.JSON()
	if err != nil {
		return nil, err
	}
	return w.startEnvoy(ctx, dir, admin, b)
}

package operator

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"

	"patchbay/agentapi"
	"patchbay/bench/model"
	"patchbay/identity/join"
	"patchbay/internal/envoymodel"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// task is an agent and a model of its Envoy.
type task struct {
	world   *world
	service string
	number  int
	local   net.IP // where it connects from
	join    *join.Member
	stream  agentapi.Agent_ConnectClient
	send    sync.Mutex
	envoy   *envoymodel.Envoy
	hosts   map[string]int // of each cluster, as the model routes
	sees    atomic.Int64   // the sum of hosts
	healthy atomic.Bool
}

func (t *task) dial(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(t.join.Credentials()), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: t.local}}).DialContext(ctx, "tcp", addr)
		}))
}

// connect enrols within joining, and opens streams that last as long as ctx.
func (t *task) connect(joining, ctx context.Context) error {
	if err := t.join.Join(joining); err != nil {
		return err
	}
	conn, err := t.dial(t.world.agent)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	if t.stream, err = agentapi.NewAgentClient(conn).Connect(ctx); err != nil {
		return err
	}
	port := uint32(15010 + t.number)
	hello := &agentapi.Hello{AgentVersion: "bench", EnvoyVersion: "1.40.0", Wiring: "redirect", Zone: "use1-az1", Ports: []*agentapi.Port{{
		PortName: "main", DiscoveryName: t.service, AppProtocol: "http", ContainerPort: 8080, IngressPort: port,
		ClientAliases: []*agentapi.ClientAlias{{DnsName: t.service + "." + namespace, Port: 8080}},
	}}}
	if err := t.stream.Send(&agentapi.Up{Message: &agentapi.Up_Hello{Hello: hello}}); err != nil {
		return err
	}
	go func() {
		for {
			if _, err := t.stream.Recv(); err != nil {
				return
			}
		}
	}()
	if err := t.health(true); err != nil {
		return err
	}
	t.world.running.Go(func() error { return t.beat(ctx) })
	return t.subscribe(ctx)
}

// health tells whether the task's application is there.
func (t *task) health(yes bool) error {
	t.healthy.Store(yes)
	state := agentapi.Health_HEALTHY
	if !yes {
		state = agentapi.Health_UNHEALTHY
	}
	t.send.Lock()
	defer t.send.Unlock()
	return t.stream.Send(&agentapi.Up{Message: &agentapi.Up_Health{Health: &agentapi.Health{EnvoyReady: true, Ports: map[string]agentapi.Health_State{"main": state}}}})
}

// beat renews the task's lease, as an agent does.
func (t *task) beat(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := t.health(t.healthy.Load()); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s-%d: %w", t.service, t.number, err)
			}
		}
	}
}

func (t *task) subscribe(ctx context.Context) error {
	meta, err := bootstrap.NodeMeta{Version: "bench", Wiring: mesh.Redirect, Ports: []bootstrap.Port{{
		PortName: "main", DiscoveryName: t.service, Protocol: mesh.HTTP, AppPort: 8080, ListenerPort: uint16(15010 + t.number),
	}}}.Struct()
	if err != nil {
		return err
	}
	who := t.join.Node()
	node := model.Node(0)
	node.Id, node.Cluster, node.Metadata = who.ID(), who.Workload.String(), meta
	node.Locality = &corev3.Locality{Zone: "use1-az1"}
	conn, err := t.dial(t.world.xds)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	t.hosts, t.envoy = map[string]int{}, envoymodel.New(node)
	t.envoy.Routes = t.routes
	return t.envoy.Connect(ctx, conn)
}

// routes keeps count of what the model routes to.
func (t *task) routes(cluster string, hosts []string) {
	t.sees.Add(int64(len(hosts) - t.hosts[cluster]))
	t.hosts[cluster] = len(hosts)
	if c := t.world.awaited.Load(); c != nil && *c == cluster && t.world.missing.Add(-1) == 0 {
		t.world.mu.Lock()
		defer t.world.mu.Unlock()
		close(t.world.told)
	}
}

// step has models take in what comes until ctx ends or a stream does.
func step(ctx context.Context, tasks []*task) error {
	for {
		busy := false
		for _, t := range tasks {
			for t.envoy.Step() {
				busy = true
			}
			if err := t.envoy.Ended(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("the Envoy of %s-%d: %w", t.service, t.number, err)
			}
		}
		if busy {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Millisecond):
		}
	}
}

// change takes the application of a task away, and back, and returns how long
// it took until every model had been told of the former.
func (w *world) change(ctx context.Context, n int) (time.Duration, error) {
	t := w.tasks[n]
	began := time.Now()
	if err := w.tell(ctx, t, false); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, w.tell(ctx, t, true)
}

func (w *world) tell(ctx context.Context, t *task, healthy bool) error {
	told := make(chan struct{})
	w.mu.Lock()
	w.told = told
	w.mu.Unlock()
	cluster := t.service + "." + namespace
	w.missing.Store(int64(len(w.tasks)))
	w.awaited.Store(&cluster)
	defer w.awaited.Store(nil)
	if err := t.health(healthy); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-told:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d sidecars were not told that %s of %s changed: %w", w.missing.Load(), t.service, namespace, ctx.Err())
	}
}

// Package sidecar is the agent beside an application: it joins the mesh, runs
// the task's Envoy, keeps the names of the namespace in the hosts file, reports
// ports and health, and takes the task out of the mesh before it ends.
//
// It owns the order of these steps and the one loop that compares what is with
// what should be ([Agent.tend]). It must not know how the mesh becomes Envoy's
// configuration, nor Cloud Map. What one step needs is a room below it, from
// sidecar/envoy, which runs the process, to sidecar/status, which is what the
// agent says of itself. Start reading at [Agent.Run].
package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"patchbay/agentapi"
	"patchbay/declare"
	"patchbay/identity/join"
	"patchbay/internal/envoybin"
	"patchbay/internal/health"
	"patchbay/mesh"
	"patchbay/sidecar/ask"
	"patchbay/sidecar/closed"
	"patchbay/sidecar/ecs"
	"patchbay/sidecar/envoy"
	"patchbay/sidecar/family"
	"patchbay/sidecar/hosts"
	"patchbay/sidecar/ingress"
	"patchbay/sidecar/probe"
	"patchbay/sidecar/redirect"
	"patchbay/sidecar/status"
	"patchbay/sidecar/tap"
	"patchbay/sidecar/traffic"
	"patchbay/xds/bootstrap"
)

// Auto is the wiring that is redirect where the agent may install the rule,
// and bind elsewhere.
const Auto mesh.Wiring = "auto"

// ErrNotPossible is wrapped by errors that say what this machine lacks: an
// Envoy, or a privilege.
var ErrNotPossible = errors.New("not possible here")

// Config of an [Agent]. Everything but Profile, Zone, Revision, ECS, Metadata, Container,
// Envoy, UID, Network, Concurrency, StopTimeout, Intercept, CloseDead, Metrics, NoTap and EMF is required.
type Config struct {
	Declaration declare.Task
	Join        string // the workload's join directory
	Task        string // unique in the workload: at most 64 of [0-9a-zA-Z_-]
	State       string // absolute path of a directory that only this agent uses
	XDS         []bootstrap.HostPort
	Agent       []string // the control plane's agent ports, HOST:PORT, in the order in which they are tried
	Wiring      mesh.Wiring
	Profile     mesh.Profile // empty: live
	HostsFile   string
	Zone        string // availability zone id
	Revision    string // the deployment that the task is of; may be empty
	// ECS is the task as ECS tells it, and Metadata where it is asked for
	// again; both nil outside ECS.
	ECS      *ecs.Task
	Metadata *ecs.Endpoint
	// Network is the task's network mode; ecs.None outside ECS, which is as
	// AWSVPC.
	Network ecs.Mode
	// Container is the name of the application's container, whose health check
	// counts. Empty: the one that maps the port.
	Container   string
	Envoy       string // path of the binary; empty: it is looked for
	UID         int    // Envoy's user and group; 0: this process's
	Concurrency int    // Envoy's workers; 0: one for each core
	// DrainTime is how long connections may take to end once every caller
	// knows that the task stops.
	DrainTime time.Duration
	// StopTimeout is how long after the first signal the task is killed, so
	// that the drain ends before; 0: it is not.
	StopTimeout time.Duration
	Version     string // of this program
	Log         *slog.Logger
	AccessLog   *os.File // where Envoy's access logs go, such as standard output
	// Intercept sends connections from outside to the application's own ports
	// through Envoy, as Service Connect does. It needs the redirect wiring.
	Intercept bool
	// CloseDead refuses new connections to the ingress of a port whose
	// application does not take any, for load balancers that only connect.
	CloseDead bool
	// Metrics is where Prometheus may scrape the task's metrics, HOST:PORT;
	// empty: nowhere.
	Metrics string
	// NoTap keeps requests from being shown to operators (patchbay tap).
	NoTap bool
	// EMF gets the same in CloudWatch's embedded metric format; nil: nobody.
	EMF io.Writer
}

// Agent is one task's agent. Its Run may be called once.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	member  *join.Member
	control *join.Addresses
	hosts   *hosts.File
	admin   *envoy.Admin
	envoy   *envoy.Supervisor
	binary  envoybin.Binary
	wiring  mesh.Wiring // redirect, bind or none, once Run has found out
	place   *ecs.Place  // how the task's ports are reached
	ingress *ingress.Ports
	rule    *redirect.Installed
	shut    func(ports []uint16) error // refuses new connections to these ports
	closed  []uint16                   // those that it was last told; of [Agent.tend] alone
	ipv6    bool                       // the task has an address of it, or had one; of [Agent.tend] alone
	has     func() (ipv4, ipv6 bool)   // families by which the task is reached
	ports   *probe.Ports
	desk    *ask.Desk
	tap     *tap.Tap // nil: NoTap

	wake    chan struct{} // capacity 1: the loop should look at once
	report  chan struct{} // capacity 1: there is news for the control plane
	drained chan struct{} // closed when the control plane says that the drain is complete

	mu sync.Mutex
	st state

	unready health.Book
}

// New checks the configuration; the error lists everything that is wrong. It
// does no other I/O than to look at the join directory.
func New(c Config) (*Agent, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	control := join.NewAddresses(c.Agent...)
	a := &Agent{
		cfg: c, log: c.Log, hosts: &hosts.File{Path: c.HostsFile}, admin: envoy.NewAdmin(c.adminSocket()), wiring: c.Wiring, place: &ecs.Place{}, shut: closed.Set, has: family.Reachable,
		member:  join.New(join.Config{Dir: c.Join, Control: control, Task: c.Task, State: c.State, UID: c.UID, Log: c.Log}),
		control: control,
		wake:    make(chan struct{}, 1), report: make(chan struct{}, 1), drained: make(chan struct{}),
		st: state{ports: map[string]*portState{}, phase: "starting", task: c.ECS},
	}
	if !c.NoTap {
		a.tap = tap.New(tap.Config{Runtime: a.admin, Socket: c.tapSocket(), UID: c.UID, Service: a.serviceOf, Log: c.Log})
	}
	a.ports = probe.New(c.Declaration.Ports, a.admin, c.Log)
	a.desk = ask.New(a.admin, c.HostsFile, func() string { return a.member.Node().ID() }, a.tap)
	return a, nil
}

// Run works until ctx ends, takes the task out of the mesh then, stops Envoy,
// removes its names and its rule, and returns nil. Any other end is an error;
// it matches ErrNotPossible where the machine lacks something.
func (a *Agent) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, work := errgroup.WithContext(work)
	defer func() { a.ingress.Release() }()
	g.Go(func() error { return status.Serve(work, a.cfg.State, a.Status) })
	err := a.start(either(ctx, work), func() { g.Go(func() error { return a.talk(work) }) })
	if err == nil {
		defer a.clean()
		g.Go(func() error { return a.envoy.Run(work) })
		if a.tap != nil {
			g.Go(func() error { return a.tap.Run(work) })
		}
		g.Go(func() error { return a.member.Run(work) })
		g.Go(func() error { return a.tend(work) })
		g.Go(func() error { return traffic.Watch(work, a.admin, a.log, a.counted) })
		report := a.measure(work, g)
		if a.cfg.Metadata != nil {
			g.Go(func() error { return a.cfg.Metadata.Watch(work, a.log, a.told) })
		}
		select {
		case <-ctx.Done():
			a.drain(work)
			report(work)
		case <-work.Done():
			err = context.Cause(work)
		}
	} else {
		a.place.Leave()
	}
	stop()
	if ended := g.Wait(); err == nil && !errors.Is(ended, context.Canceled) {
		err = ended
	}
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}

// either ends when one of them does, with its cause.
func either(a, b context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(a)
	context.AfterFunc(b, func() { cancel(context.Cause(b)) })
	return ctx
}

// start does what must precede Envoy: find it, claim its ports, prepare the task's network,
// join the mesh, write the bootstrap. Once the task has joined it calls talk.
func (a *Agent) start(ctx context.Context, talk func()) error {
	var err error
	if a.binary, err = envoybin.Find(ctx, a.cfg.Envoy); err != nil {
		return fmt.Errorf("%w: %w", ErrNotPossible, err)
	}
	// Before anything is changed that a sidecar beside this one may rely on.
	if err := a.takeIngress(ctx); err != nil {
		return err
	}
	p, err := a.cfg.locator().Place(ctx)
	if err != nil {
		return err
	}
	a.place = p
	if why := a.place.NoEgress; why != "" {
		a.log.WarnContext(ctx, "the task only serves: its applications can't call the mesh", "network", a.cfg.Network, "reason", why)
	} else if err := a.hosts.Test(); err != nil {
		a.log.ErrorContext(ctx, "names can't be written: applications of this task will not find the mesh's names. "+
			"Share the file with the application's container, and run the agent as a user who may write to it", "error", err)
	}
	if err := a.wire(ctx); err != nil {
		return err
	}
	if a.cfg.CloseDead {
		if err := a.shut(nil); err != nil {
			return errors.Join(fmt.Errorf("%w: %w\ngive the sidecar the capability NET_ADMIN, or leave out --close-dead", ErrNotPossible, err), a.unwire())
		}
	}
	a.setPhase("joining the mesh")
	if err := a.member.Join(ctx); err != nil {
		return errors.Join(err, a.unwire())
	}
	talk()
	if err := a.freeze(ctx); err != nil {
		return errors.Join(err, a.unwire())
	}
	if err := a.configure(); err != nil {
		return errors.Join(err, a.unwire())
	}
	a.envoy = envoy.NewSupervisor(envoy.Command{
		Binary: a.binary.Path, Bootstrap: a.cfg.bootstrapFile(), UID: a.cfg.UID, Concurrency: a.cfg.Concurrency,
		DrainTime: a.cfg.DrainTime, Log: a.log, Stdout: a.cfg.AccessLog, LogLevel: a.envoyLogLevel(),
	})
	a.setPhase("")
	a.log.InfoContext(ctx, "joined", "node", a.member.Node().ID(), "network", cmp.Or(a.cfg.Network, "own"), "wiring", a.wiring, "envoy_version", a.binary.Version.String(), "ports", len(a.cfg.Declaration.Ports))
	return nil
}

// wire decides how connections reach Envoy, and installs the rule.
func (a *Agent) wire(ctx context.Context) error {
	if a.place.NoEgress != "" {
		a.wiring = mesh.NoEgress
	}
	if a.wiring == mesh.Bind || a.wiring == mesh.NoEgress {
		return nil
	}
	rule, err := redirect.Install(redirect.Rule{VIPs: a.cfg.vips(), Port: bootstrap.RedirectPort, Own: bootstrap.OutsideTTL, Ingress: a.cfg.intercepted(), IPv6: family.Listens()})
	switch {
	case err == nil:
		a.rule, a.wiring = rule, mesh.Redirect
		if rule.NoIPv6 != nil {
			a.log.ErrorContext(ctx, "connections by IPv6 are not intercepted: they reach the application's own ports", "error", rule.NoIPv6)
		}
		return nil
	case a.cfg.Wiring == Auto && !a.cfg.Intercept:
		a.wiring = mesh.Bind
		a.log.WarnContext(ctx, "no redirect rule: Envoy listens on the virtual addresses itself, and not on ports that the task's containers use", "error", err)
		return nil
	}
	return fmt.Errorf("%w: %w\ngive the sidecar the capability NET_ADMIN, or use --wiring bind without --intercept", ErrNotPossible, err)
}

func (a *Agent) unwire() error {
	if a.rule == nil {
		return nil
	}
	return a.rule.Remove()
}

// clean leaves the task as it was found. After a crash names and rule stay:
// the next start goes on from there.
func (a *Agent) clean() {
	a.place.Leave()
	a.reopen()
	a.thaw()
	if _, err := a.hosts.Set(nil); err != nil {
		a.log.Warn("names stay in the hosts file", "error", err)
	}
	if err := a.unwire(); err != nil {
		a.log.Warn("the redirect rule stays", "error", err)
	}
}

// poke makes the loop look now.
func (a *Agent) poke() { signal(a.wake) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// hello is what the task is, in the words of the agent stream.
func (a *Agent) hello() *agentapi.Hello {
	h := &agentapi.Hello{
		AgentVersion: a.cfg.Version, EnvoyVersion: a.binary.Version.String(), Wiring: string(a.wiring), Zone: a.cfg.Zone,
		Dependencies: a.cfg.Declaration.Dependencies, Revision: a.cfg.Revision,
	}
	for _, p := range a.containerPorts() {
		h.ContainerPorts = append(h.ContainerPorts, uint32(p))
	}
	for _, p := range a.cfg.Declaration.Ports {
		h.Ports = append(h.Ports, a.helloPort(p))
	}
	return h
}

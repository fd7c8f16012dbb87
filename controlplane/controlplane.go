// Package controlplane is the control plane: `patchbay serve`. It reads the
// registry, has certificates issued, pushes to Envoys and answers agents and
// operators, and is made of the packages that do each of these.
//
// It owns the wiring: the order in which the parts are built and started, what
// they tell one another, and what becomes of them when one fails. Two packages
// that must not know each other meet here. It must not know flags and exit
// codes, nor how a part does its work.
//
// Start reading at [Run]. Below it, answers is what operators are told, and
// metrics what is measured.
package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"patchbay/admin"
	"patchbay/admin/live"
	"patchbay/agentapi"
	"patchbay/agents"
	"patchbay/audit"
	"patchbay/config"
	"patchbay/controlplane/answers"
	"patchbay/controlplane/metrics"
	"patchbay/discovery"
	"patchbay/discovery/cloud"
	"patchbay/discovery/events"
	"patchbay/external"
	"patchbay/fault"
	"patchbay/identity"
	"patchbay/identity/registered"
	"patchbay/identity/taskrole"
	"patchbay/internal/health"
	"patchbay/mesh"
	"patchbay/pki"
	"patchbay/pki/secret"
	"patchbay/registrar"
	"patchbay/registry/watch"
	"patchbay/replicas"
	"patchbay/shift"
	"patchbay/telemetry"
	"patchbay/xds"
	"patchbay/xds/delta"
	"patchbay/xds/journey"
	"patchbay/xds/leds"
	"patchbay/xds/views"
)

// Options are what a control plane is run with.
type Options struct {
	Config  config.Config
	Version string // of the program
	Replica string // names this process among others
	Log     *slog.Logger
}

// control is the control plane, wired. Its fields are built in this order.
type control struct {
	replica string
	version string
	started time.Time
	cfg     config.Config
	log     *slog.Logger
	store   *mesh.Store
	audit   *audit.Log
	metrics *prometheus.Registry
	vault   secret.Store // where certificates rest
	// registryURL and registryKey are how we reach the embedded registry.
	registryURL string
	registryKey aws.Credentials
	replicas    *replicas.Replicas // nil: there is one
	line        *identity.Replica
	content     func() string // a hash of what is served; nil: there is one replica
	queue       *events.Queue // nil: no events
	external    *external.Sink
	discovery   *discovery.CloudMap
	registrar   *registrar.Registrar
	rotator     *pki.Rotator
	workloads   *registered.Workloads
	foreseen    *foreseen
	guard       *identity.Guard
	enrolment   *identity.Server
	roles       taskrole.Roles // empty: nobody joins by a role
	cache       *delta.Cache
	pusher      *xds.Pusher
	agents      *agents.Server
	faults      *fault.Injector
	watch       *live.Watch
	answers     *answers.Source
	unready     *health.Book
	traces      *telemetry.Provider // nil: none are wanted
}

// errRestart ends the control plane so that it starts again.
var errRestart = errors.New("restarted on purpose")

// Run runs the control plane until ctx ends or a part fails, again and again if
// it is told to restart. An error of what the file says is a [config.Wrong].
func Run(ctx context.Context, o Options) error {
	for {
		once, restart := context.WithCancelCause(ctx)
		err := run(once, o, func() { restart(errRestart) })
		again := ctx.Err() == nil && errors.Is(context.Cause(once), errRestart)
		if restart(nil); !again {
			return err
		}
	}
}

// run builds everything, then runs it until ctx ends or a part fails.
func run(ctx context.Context, o Options, restart func()) error {
	cfg, log := o.Config, o.Log
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	c := &control{replica: o.Replica, version: o.Version, started: time.Now(), cfg: cfg, log: log, store: mesh.NewStore(), metrics: prometheus.NewRegistry(), foreseen: &foreseen{}, unready: &health.Book{}}
	c.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	c.faults = &fault.Injector{Store: c.store, Refused: noFaults(cfg), Restart: restart, Log: log}
	var err error
	if c.traces, err = telemetry.Open(ctx, telemetry.Service{Name: "patchbay", Version: c.version, Instance: c.replica}, os.Getenv, log); err != nil {
		return &config.Wrong{Err: err}
	}
	if c.traces != nil {
		defer c.traces.Close(ctx)
	}
	c.faults.Brief = c.brief
	g, ctx := errgroup.WithContext(ctx)
	if err := c.startRegistry(ctx, g); err != nil {
		return err
	}
	if c.audit, err = audit.Open(audit.File(cfg.Data), log); err != nil {
		return err
	}
	g.Go(func() error { return c.audit.Run(ctx) })
	for _, build := range []func(context.Context) error{c.buildSecrets, c.buildDiscovery, c.buildCertificates, c.buildIdentity, c.buildPush} {
		if err := build(ctx); err != nil {
			return err
		}
	}
	c.buildAnswers()
	g.Go(func() error { return c.discovery.Run(ctx) })
	g.Go(func() error { return c.registrar.Run(ctx) })
	g.Go(func() error { return c.foresee(ctx) })
	g.Go(func() error { return c.rotator.Run(ctx) })
	g.Go(func() error { return c.pusher.Run(ctx) })
	g.Go(func() error { return shift.New(c.store, c.registrar, c.agents.Traffic().Revision, c.log).Run(ctx) })
	c.startReaper(ctx, g)
	if err := c.listen(ctx, g); err != nil {
		return err
	}
	log.Info("control plane started", "xds", cfg.XDS.Listen, "agent", cfg.Agent.Listen, "admin", cfg.Admin.Listen, "namespaces", cfg.Namespaces)
	return g.Wait()
}

func (c *control) buildDiscovery(ctx context.Context) error {
	endpoint, cfg, err := c.registryClient(ctx)
	if err != nil {
		return err
	}
	d := discovery.Config{CreateNamespace: c.cfg.CreateNamespaces, StateDir: filepath.Join(c.cfg.Data, "last-known-good"), Metrics: metrics.NewDiscovery(c.metrics)}
	r := registrar.Config{CreateNamespace: c.cfg.CreateNamespaces, Namespaces: map[string]string{}}
	if c.cfg.Registry != nil || c.cfg.CloudMap.Lease > 0 { // what AWS has not
		d.Watch = &watch.Client{URL: endpoint, Sign: watch.SignV4(cfg.Credentials, cfg.Region), Log: c.log}
		d.Budget = cloud.Unlimited
		r.Lease = c.lease()
	}
	for _, n := range c.cfg.Namespaces {
		local := strings.ToLower(n)
		ref := c.cfg.Namespace(local)
		d.Namespaces = append(d.Namespaces, discovery.Namespace{Name: local, Registry: ref})
		if ref != local {
			r.Namespaces[local] = ref
		}
	}
	if err := c.buildHints(ctx, endpoint, cfg, &d); err != nil {
		return err
	}
	targets, err := externalTargets(c.cfg)
	if err != nil {
		return err
	}
	c.external = &external.Sink{To: c.store, Targets: targets, Collector: c.cfg.Tracing.CollectorAddress().Host, Log: c.log}
	c.discovery, err = discovery.New(d, cloud.NewClient(cfg, cloud.ClientOptions{Endpoint: endpoint}), c.external, c.log)
	if err != nil {
		return err
	}
	c.registrar = registrar.New(r, cloud.NewClient(cfg, cloud.ClientOptions{Endpoint: endpoint, Attempts: 5}), announcer{c.discovery, c.replicas}, c.log)
	return nil
}

func (c *control) buildIdentity(ctx context.Context) error {
	signer, err := identity.OpenSigner(identity.ControlDir(c.cfg.Data), c.cfg.TrustDomain)
	if err != nil {
		return err
	}
	workloads := registered.New(registered.Dir(c.cfg.Data), c.log)
	if err := workloads.Load(); err != nil {
		c.log.Error("some identities are not well-formed", "error", err.Error())
	}
	c.workloads = workloads
	c.guard = identity.NewGuard(signer, workloads, c.log)
	if c.enrolment, err = identity.NewServer(c.cfg.Data, signer, workloads, c.log); err != nil {
		return err
	}
	c.enrolment.Audit(c.guard, c.audit.Record)
	return c.byRole(ctx)
}

func (c *control) buildPush(ctx context.Context) error {
	c.cache = delta.NewCache(delta.NewMetrics(c.metrics))
	identify := identity.FromContext
	if c.cfg.XDS.Auth == "none" {
		identify = nil
	}
	opts := []xds.Option{xds.Collections(leds.Mode(c.cfg.XDS.LEDS)), xds.Identities(c.cfg.TrustDomain, c.cfg.CallersIssuer())}
	if t := c.cfg.Tracing; t != nil {
		opts = append(opts, xds.Tracing(views.Tracing{Collector: t.CollectorAddress(), HTTP: t.Protocol == "http", Percent: t.Sampling}))
	}
	if c.traces != nil {
		opts = append(opts, xds.Journeys(journey.New(ctx, c.traces)))
	}
	c.pusher = xds.NewPusher(c.store, c.cache, identify, c.log, opts...)
	c.pusher.Register(c.metrics)
	var barrier agents.Barrier = c.pusher
	if c.replicas != nil {
		c.replicas.Follow(c.discovery, c.pusher, c.rotator.Stored, c.enrolment.Proofs().Here)
		c.enrolment.Proofs().Share(c.replicas)
		barrier = c.replicas
	}
	c.agents = agents.New(agents.Options{
		Store: c.store, Registrar: c.registrations(), Barrier: barrier, Peer: identity.FromContext, Name: "patchbay", Log: c.log, CallersIssuer: c.cfg.CallersIssuer(),
		Lease: c.lease(),
	})
	return nil
}

// buildAnswers makes what operators are told of all that is built.
func (c *control) buildAnswers() {
	c.answers = &answers.Source{
		Version: c.version, Replica: c.replica, Started: c.started, Config: c.cfg, SecretPrefix: c.secretPrefix(),
		NotReady: c.notReady, Foreseen: c.foreseen.conflicts, Targets: externalTargets,
		Store: c.store, Discovery: c.discovery, External: c.external, Registrar: c.registrar, Rotator: c.rotator, Cache: c.cache, Pusher: c.pusher,
		Agents: c.agents, Faults: c.faults, Queue: c.queue, Replicas: c.replicas, Content: c.content, Log: c.log,
	}
	c.watch = live.New(c.answers.Status, c.answers.Traffic, c.log)
	c.metrics.MustRegister(metrics.State{
		NotReady: c.notReady, Foreseen: func() int { return len(c.foreseen.conflicts()) }, Findings: c.watch.Findings, Namespaces: c.answers.Namespaces,
		Discovery: c.discovery, Rotator: c.rotator, Agents: c.agents, Queue: c.queue, Replicas: c.replicas,
	})
}

// listen opens every port before any is served, so that a port in use is said
// at once.
func (c *control) listen(ctx context.Context, g *errgroup.Group) error {
	listeners := map[string]net.Listener{}
	secure, err := c.adminTLS()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range [][2]string{{"xds", c.cfg.XDS.Listen}, {"agent", c.cfg.Agent.Listen}, {"admin", c.cfg.Admin.Listen}} {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", p[1])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s.listen: %w", p[0], err))
		}
		listeners[p[0]] = l
	}
	if len(errs) > 0 {
		return errors.Join(errs...) // the process ends, and with it what was opened
	}
	if secure != nil {
		listeners["admin"] = tls.NewListener(listeners["admin"], secure)
	}
	g.Go(func() error { return c.watch.Run(ctx) })
	opened, err := c.adminOptions()
	if err != nil {
		return err
	}
	if err := c.listenSocket(ctx, g, opened); err != nil {
		return err
	}
	if err := c.listenNodes(ctx, g); err != nil {
		return err
	}
	if err := c.runReplicas(ctx, g); err != nil {
		return err
	}
	x := xds.ServerConfig{Log: c.log, MaxAge: 45 * time.Minute, StateOfTheWorld: c.cfg.XDS.StateOfTheWorld, Interceptors: []grpc.StreamServerInterceptor{c.fresh}}
	if c.cfg.XDS.Auth == "mtls" {
		x.Creds, x.Interceptors = c.guard.Credentials(false), []grpc.StreamServerInterceptor{c.guard.StreamInterceptor, c.fresh}
	}
	agentServer := grpc.NewServer(append(c.guard.Options(), grpc.Creds(c.guard.Credentials(true)))...)
	agentapi.RegisterEnrolmentServer(agentServer, c.enrolment)
	agentapi.RegisterAgentServer(agentServer, c.agents)
	g.Go(func() error { return xds.NewServer(c.pusher, x).Run(ctx, listeners["xds"]) })
	g.Go(func() error {
		defer context.AfterFunc(ctx, agentServer.Stop)()
		return agentServer.Serve(c.clients(listeners["agent"]))
	})
	g.Go(func() error { return admin.Serve(ctx, listeners["admin"], c.adminHandler(opened), c.log) })
	return nil
}

// Package registrar writes the registry: it is the only one that does. It
// registers the ports of a task for the workload that the task has proved to
// be, from the address that it connects from.
//
// It owns what may be written and in which order: the settings of a service
// and its virtual IPs stand before its first instance. It must not know how a
// workload proves itself, nor what sidecars are told.
//
// Start reading at [Registrar.Register], then settings.go.
package registrar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/internal/namespaces"
	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/mesh/record"
)

// API is the part of Cloud Map that the registrar uses. The AWS SDK's client
// has it; it should retry throttled calls.
type API interface {
	ListNamespaces(context.Context, *sd.ListNamespacesInput, ...func(*sd.Options)) (*sd.ListNamespacesOutput, error)
	CreateHttpNamespace(context.Context, *sd.CreateHttpNamespaceInput, ...func(*sd.Options)) (*sd.CreateHttpNamespaceOutput, error)
	ListServices(context.Context, *sd.ListServicesInput, ...func(*sd.Options)) (*sd.ListServicesOutput, error)
	CreateService(context.Context, *sd.CreateServiceInput, ...func(*sd.Options)) (*sd.CreateServiceOutput, error)
	ListTagsForResource(context.Context, *sd.ListTagsForResourceInput, ...func(*sd.Options)) (*sd.ListTagsForResourceOutput, error)
	GetServiceAttributes(context.Context, *sd.GetServiceAttributesInput, ...func(*sd.Options)) (*sd.GetServiceAttributesOutput, error)
	UpdateServiceAttributes(context.Context, *sd.UpdateServiceAttributesInput, ...func(*sd.Options)) (*sd.UpdateServiceAttributesOutput, error)
	DeleteServiceAttributes(context.Context, *sd.DeleteServiceAttributesInput, ...func(*sd.Options)) (*sd.DeleteServiceAttributesOutput, error)
	DiscoverInstances(context.Context, *sd.DiscoverInstancesInput, ...func(*sd.Options)) (*sd.DiscoverInstancesOutput, error)
	GetInstance(context.Context, *sd.GetInstanceInput, ...func(*sd.Options)) (*sd.GetInstanceOutput, error)
	RegisterInstance(context.Context, *sd.RegisterInstanceInput, ...func(*sd.Options)) (*sd.RegisterInstanceOutput, error)
	DeregisterInstance(context.Context, *sd.DeregisterInstanceInput, ...func(*sd.Options)) (*sd.DeregisterInstanceOutput, error)
	UpdateInstanceCustomHealthStatus(context.Context, *sd.UpdateInstanceCustomHealthStatusInput, ...func(*sd.Options)) (*sd.UpdateInstanceCustomHealthStatusOutput, error)
	GetOperation(context.Context, *sd.GetOperationInput, ...func(*sd.Options)) (*sd.GetOperationOutput, error)
}

// Discovery is told what happens, so that it need not find out by polling.
type Discovery interface {
	// Hint says that an instance of a service has been written.
	Hint(mesh.ServiceName)
	// HintSettings says that the service itself has.
	HintSettings(mesh.ServiceName)
	// Leaving says that an instance is about to be deregistered. When it
	// returns, the instance has been taken out of the mesh, if that leaves
	// another of its service; if not, that follows within seconds.
	Leaving(service mesh.ServiceName, instanceID string)
}

// Config is what New needs.
type Config struct {
	// Namespaces maps a namespace of the mesh to its HttpName, id or ARN in
	// Cloud Map; empty, or not listed, means that they are called the same.
	Namespaces map[string]string
	// CreateNamespace allows a missing namespace to be made (of type HTTP).
	CreateNamespace bool
	// Lease is for our registry: an instance lives that long after its last
	// heartbeat. Whole seconds; zero, as for AWS, means for ever.
	Lease time.Duration
	// Operation is the longest wait for an asynchronous operation. Default 60 s.
	Operation time.Duration
}

// Instance names one port of one task.
type Instance struct {
	Node          mesh.Node // as authenticated
	DiscoveryName string
	PortName      string
}

// Service is the service that i is an instance of. It is always in the
// namespace of the workload.
func (i Instance) Service() mesh.ServiceName {
	return mesh.ServiceName{Namespace: i.Node.Workload.Namespace, DiscoveryName: i.DiscoveryName}
}

// ID is i's instance id in Cloud Map.
func (i Instance) ID() string { return record.InstanceID(i.Node.Task, i.PortName) }

// Request asks for an instance to be registered.
type Request struct {
	Instance
	Peer         netip.Addr // where the task's connection comes from: the address that is registered
	Claimed      netip.Addr // where the task believes to be; the zero Addr if it does not say
	ListenerPort uint16     // of its Envoy's ingress listener
	Zone         string
	Revision     string
	Health       mesh.Health

	Protocol mesh.Protocol
	Aliases  []mesh.Alias // VIPs are ignored
	TLS      *mesh.ServiceTLS
	Timeouts mesh.Timeouts
	Policy   *policy.Policy
}

func (r Request) settings() record.Settings {
	return record.Settings{Protocol: r.Protocol, Aliases: r.Aliases, TLS: r.TLS, Timeouts: r.Timeouts, Policy: r.Policy}
}

// Registration is what has been registered.
type Registration struct {
	Service    mesh.ServiceName
	InstanceID string
	ServiceARN string
}

// Registrar writes the registry. All methods are safe for concurrent use:
// writes to the settings of one service take turns, everything else runs in
// parallel. Other replicas may write at the same time; what is written is read
// back, and written again if another was faster.
type Registrar struct {
	cfg  Config
	api  API
	disc Discovery
	log  *slog.Logger

	turns      turns
	mu         sync.Mutex
	namespaces map[string]namespaces.Namespace // by mesh name
	services   map[mesh.ServiceName]*known     // those that may be written to
	attributes map[string]cached               // by service id
	live       map[key]*registered             // registered by this process
	swept      time.Time                       // when live was last looked through
	failed     map[key]failed                  // deregistrations to try again
	unsure     map[key]unsure                  // registrations that may still be carried out
	wake       chan struct{}
}

type key struct {
	service mesh.ServiceName
	id      string
}

// turn is what writes to one instance take turns at.
func (i Instance) turn() string { return turn(i.Service(), i.ID()) }

func turn(service mesh.ServiceName, id string) string {
	return "instance " + service.String() + " " + id
}

func (i Instance) key() key { return key{i.Service(), i.ID()} }

// entry is where an instance is registered, and by which registrations.
type entry struct {
	serviceID string
	account   *string     // as known.account
	since     []time.Time // their marks; none: any that is there
}

// registered is an instance that this process has registered.
type registered struct {
	entry
	owner   string
	health  mesh.Health
	seen    time.Time // its last sign
	look    time.Time // when to look whether the registry still has it
	doubted time.Time // until then a removal that was given up may take it out
}

// New makes a Registrar; nothing happens before a method is called.
func New(cfg Config, api API, disc Discovery, log *slog.Logger) *Registrar {
	cfg.Operation = cmp.Or(cfg.Operation, time.Minute)
	return &Registrar{
		cfg: cfg, api: api, disc: disc, log: log,
		namespaces: map[string]namespaces.Namespace{}, services: map[mesh.ServiceName]*known{}, attributes: map[string]cached{},
		live: map[key]*registered{}, failed: map[key]failed{}, unsure: map[key]unsure{}, wake: make(chan struct{}, 1),
	}
}

// Register makes sure that an instance is registered as the request says:
// namespace and service exist, the service's settings and virtual IPs are
// written down, the instance has the address of the peer. Asking again for
// what is there already changes nothing. It returns when the registry has
// finished. An error that is a *Refusal tells what to do; after any other
// error the same request may be tried again.
func (r *Registrar) Register(ctx context.Context, req Request) (Registration, error) {
	if err := check(req); err != nil {
		return Registration{}, err
	}
	k, err := r.persist(ctx, req, true)
	if err != nil {
		return Registration{}, err
	}
	return Registration{req.Service(), req.ID(), k.arn}, nil
}

// Declare makes sure that the service of a request exists with its settings
// and virtual IPs, and writes no instance: names and certificates are ready
// when the first one comes. Peer, ListenerPort and Health are not looked at.
func (r *Registrar) Declare(ctx context.Context, req Request) error {
	req.Peer, req.Claimed, req.ListenerPort = netip.IPv6Loopback(), netip.Addr{}, 1 // not written
	if err := check(req); err != nil {
		return err
	}
	_, err := r.persist(ctx, req, false)
	return err
}

// persist writes what is missing, from the start again if the service or the
// namespace is deleted meanwhile.
func (r *Registrar) persist(ctx context.Context, req Request, instance bool) (k *known, err error) {
	for range 3 {
		if k, err = r.attempt(ctx, req, instance); err == nil || !isGone(err) {
			break
		}
		r.forget(req.Service())
	}
	return k, err
}

func (r *Registrar) attempt(ctx context.Context, req Request, instance bool) (*known, error) {
	_, hash, err := req.settings().Encode()
	if err != nil {
		return nil, err
	}
	k, err := r.lookup(ctx, req.Service(), true)
	if err != nil {
		return nil, err
	}
	var there *record.Instance
	if k != nil {
		if there, err = r.present(ctx, k, req.Instance); err != nil {
			return nil, err
		}
	}
	k, wrote, err := r.settle(ctx, req, k, hash, there)
	if err != nil {
		return nil, err
	}
	if instance {
		if err := r.put(ctx, k, req, hash, there); err != nil {
			return nil, err
		}
	}
	switch {
	case wrote:
		r.disc.HintSettings(req.Service())
	case instance:
		r.disc.Hint(req.Service())
	}
	return k, nil
}

// Deregister takes an instance out of the mesh at once (the last of its service
// when the registry no longer has it), then out of the registry. An instance that is not there is no error. If the registry fails,
// Run tries again until it succeeds.
func (r *Registrar) Deregister(ctx context.Context, i Instance) error {
	if err := offers(i); err != nil {
		return err
	}
	done, err := r.turns.take(ctx, i.turn())
	if err != nil {
		return err
	}
	defer done()
	at, err := r.owned(ctx, i)
	if err != nil || at.serviceID == "" {
		return err
	}
	r.disc.Leaving(i.Service(), i.ID())
	r.mu.Lock()
	delete(r.live, i.key())
	r.mu.Unlock()
	err = r.remove(ctx, i.ID(), at)
	r.removeAgain(i, at, err)
	if err == nil {
		r.disc.Hint(i.Service())
	}
	return err
}

// SetHealth writes an instance's health. AWS takes about 30 s to show it, our
// registry none. The error matches ErrNotRegistered if there is no such
// instance.
func (r *Registrar) SetHealth(ctx context.Context, i Instance, h mesh.Health) error {
	if err := offers(i); err != nil {
		return err
	}
	at, err := r.owned(ctx, i)
	if err != nil {
		return err
	}
	if at.serviceID == "" {
		return fmt.Errorf("set the health of %s of %s: %w", i.ID(), i.Service(), ErrNotRegistered)
	}
	if err := r.writeHealth(ctx, at.serviceID, i.ID(), h); err != nil {
		return err
	}
	r.mu.Lock()
	if l := r.live[i.key()]; l != nil {
		l.health = h
	}
	r.mu.Unlock()
	r.disc.Hint(i.Service())
	return nil
}

// Heartbeat says that the task of an instance is alive. Where instances have
// leases it renews the lease; elsewhere it looks now and then whether the
// instance is still there: nobody can take one out for good by mistake. It leaves the health
// as it is. The error matches ErrNotRegistered if this process has not
// registered the instance, or the registry has lost it.
func (r *Registrar) Heartbeat(ctx context.Context, i Instance) error {
	if r.cfg.Lease == 0 {
		return r.stillThere(ctx, i)
	}
	r.mu.Lock()
	l := r.live[i.key()]
	var serviceID string
	var health mesh.Health
	if l != nil {
		serviceID, health = l.serviceID, l.health
		l.seen = time.Now()
	}
	r.mu.Unlock()
	if l == nil {
		return fmt.Errorf("renew %s of %s: %w", i.ID(), i.Service(), ErrNotRegistered)
	}
	return r.writeHealth(ctx, serviceID, i.ID(), health)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// isGone reports whether a namespace or service that was known is not there.
func isGone(err error) bool {
	var s *types.ServiceNotFound
	var n *types.NamespaceNotFound
	return errors.As(err, &s) || errors.As(err, &n)
}

package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"patchbay/agentapi"
	"patchbay/declare"
	"patchbay/mesh"
	"patchbay/sidecar/ecs"
	"patchbay/sidecar/envoy"
	"patchbay/sidecar/family"
	"patchbay/sidecar/ingress"
	"patchbay/sidecar/status"
	"patchbay/sidecar/strict"
	"patchbay/xds/bootstrap"
)

// Names below the state directory, besides those of join and bootstrap.
const (
	adminSocket   = "admin.sock" // Envoy's
	tapSocket     = "tap.sock"   // ours, for Envoy
	bootstrapName = "bootstrap.json"
)

// maxSocket is what a Unix socket's address can hold (unix(7)).
const maxSocket = 107

func (c Config) adminSocket() string   { return filepath.Join(c.State, adminSocket) }
func (c Config) tapSocket() string     { return filepath.Join(c.State, tapSocket) }
func (c Config) bootstrapFile() string { return filepath.Join(c.State, bootstrapName) }

// check lists everything that is wrong.
func (c Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !c.Declaration.Enabled {
		bad("the declaration: serviceConnectConfiguration is missing or not enabled; allowed: {\"serviceConnectConfiguration\": {\"enabled\": true, …}}")
	}
	if !slices.Contains([]mesh.Wiring{mesh.Redirect, mesh.Bind, Auto}, c.Wiring) {
		bad("wiring: %q; allowed: redirect, bind, auto", c.Wiring)
	}
	switch c.Profile {
	case "", mesh.Live:
	case mesh.Strict:
		errs = append(errs, strict.Refused(c.Declaration)...)
	default:
		bad("profile: %q; allowed: live, strict", c.Profile)
	}
	if c.Network != ecs.None && !slices.Contains(ecs.Modes, c.Network) {
		bad("network: %q; allowed: awsvpc, host, bridge", c.Network)
	}
	if c.Network == ecs.Bridge && c.Metadata == nil {
		bad("network: bridge; allowed: only in a task of ECS, whose metadata (%s) say where its containers are", ecs.Variable)
	}
	if !mesh.ValidTask(c.Task) {
		bad("task: %q; allowed: 1 to 64 of [0-9a-zA-Z_-]", c.Task)
	}
	if c.Revision != "" && !mesh.ValidRevision(c.Revision) {
		bad("revision: %q; allowed: up to 64 of [0-9a-zA-Z_.-]", c.Revision)
	}
	if longest := status.Socket(c.State); !filepath.IsAbs(c.State) || len(longest) > maxSocket {
		bad("state: %q; allowed: an absolute path of at most %d bytes", c.State, maxSocket-len(filepath.Base(longest))-1)
	}
	if len(c.XDS) == 0 {
		bad("xds: is missing; allowed: the control plane's xDS port, HOST:PORT")
	}
	if len(c.Agent) == 0 {
		bad("agent: is missing; allowed: the control plane's agent port, HOST:PORT")
	}
	if c.Join == "" {
		bad("join: is missing; allowed: a directory made by `patchbay token join`")
	}
	if c.Intercept && (c.Wiring == mesh.Bind || c.Network == ecs.Host || c.Network == ecs.Bridge) {
		bad("intercept: with wiring %s, network %s; allowed: with wiring redirect or auto, in a network of the task's own", c.Wiring, cmp.Or(c.Network, "own"))
	}
	if c.CloseDead && c.Network == ecs.Host {
		bad("close-dead: on a host's network; allowed: in a network of the task's own")
	}
	if c.DrainTime < time.Second {
		bad("drain-time: %s; allowed: 1s or more", c.DrainTime)
	}
	if c.StopTimeout != 0 && c.StopTimeout < 2*stopReserve {
		bad("stop-timeout: %s; allowed: %s or more, or 0 for none", c.StopTimeout, 2*stopReserve)
	}
	if c.Metrics != "" {
		if _, _, err := net.SplitHostPort(c.Metrics); err != nil {
			bad("metrics: %q; allowed: HOST:PORT, such as 127.0.0.1:9464", c.Metrics)
		}
	}
	return errors.Join(append(errs, c.checkPorts()...)...)
}

func (c Config) checkPorts() (errs []error) {
	for _, p := range c.Declaration.Ports {
		if p.IngressPort == bootstrap.RedirectPort {
			errs = append(errs, fmt.Errorf("the declaration: %s: ingressPortOverride %d is used by the sidecar; allowed: any other", p.PortName, p.IngressPort))
		}
	}
	return errs
}

// takeIngress claims the ports on which Envoy will listen for the other tasks.
// What is no sidecar and has one of them still is for Envoy to say, which must
// not share it then ([Agent.meta]).
func (a *Agent) takeIngress(ctx context.Context) error {
	var offers []string
	for _, p := range a.cfg.Declaration.Ports {
		offers = append(offers, p.DiscoveryName)
	}
	owner := fmt.Sprintf("task %s, offers %s, state directory %s", a.cfg.Task, strings.Join(offers, ", "), a.cfg.State)
	p, err := ingress.Take(ctx, a.cfg.Declaration.Ports, owner, func(why error) {
		a.setPhase("waiting: " + why.Error())
		a.log.WarnContext(ctx, "waiting for a port that is taken", "error", why)
	})
	if err != nil {
		return err
	}
	a.ingress = p
	if err := p.Busy(); err != nil {
		a.log.ErrorContext(ctx, "a port stays taken: Envoy will not open it", "error", err)
	}
	return nil
}

// vips are the virtual IPs of the task's names.
func (c Config) vips() netip.Prefix {
	if c.Profile == mesh.Strict {
		return mesh.StrictVIPs
	}
	return mesh.LiveVIPs
}

// intercepted is where connections to the application's ports go; none unless
// that is wanted.
func (c Config) intercepted() map[uint16]uint16 {
	out := map[uint16]uint16{}
	for _, p := range c.Declaration.Ports {
		if c.Intercept {
			out[p.ContainerPort] = p.IngressPort
		}
	}
	return out
}

// namespace holds what the declaration says against what the join directory
// proves. An ARN is not compared: it does not hold the name.
func (a *Agent) namespace() error {
	said, is := strings.ToLower(a.cfg.Declaration.Namespace), a.member.Node().Workload.Namespace
	if said != "" && said != is && !strings.HasPrefix(said, "arn:") {
		return fmt.Errorf("serviceConnectConfiguration.namespace is %q, but the join directory %s is for namespace %q: set one of them right", said, a.cfg.Join, is)
	}
	return nil
}

// configure writes what Envoy starts with.
func (a *Agent) configure() error {
	if err := a.namespace(); err != nil {
		return err
	}
	n := a.member.Node()
	ipv4, ipv6 := a.has()
	b, err := bootstrap.Config{
		NodeID: n.ID(), NodeCluster: n.Workload.String(), Zone: a.cfg.Zone, Meta: a.meta(), XDS: a.cfg.XDS,
		TLSDir: a.cfg.State, ServerName: a.member.ServerName(), AdminSocket: a.cfg.adminSocket(), TapSocket: a.cfg.tapSocket(),
		IPv6Only: ipv6 && !ipv4,
	}.JSON()
	if err != nil {
		return err
	}
	files := bootstrap.SDSFiles(a.cfg.State)
	files[bootstrapName] = b
	if err := envoy.WriteFiles(a.cfg.State, files, a.cfg.UID); err != nil {
		return err
	}
	// A socket of an earlier run would answer for an Envoy that is gone.
	if err := os.Remove(a.cfg.adminSocket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the socket of an earlier run: %w", err)
	}
	return nil
}

func (a *Agent) meta() bootstrap.NodeMeta {
	m := bootstrap.NodeMeta{
		Version: a.cfg.Version, Wiring: a.wiring, Exclusive: a.cfg.Network == ecs.Host, ExclusiveIngress: a.ingress.Busy() != nil, IPv6: family.Listens(), EitherLoopback: a.place.Either(), ContainerPorts: a.containerPorts(),
		Dependencies: a.cfg.Declaration.Dependencies,
		Policies:     a.cfg.Declaration.Policies,
		Tap:          a.tap != nil,
	}
	if a.cfg.Profile == mesh.Strict {
		m.Profile, m.Names = mesh.Strict, a.frozen()
	}
	if l := a.cfg.Declaration.AccessLog; l != nil {
		m.AccessLog = bootstrap.AccessLog{Format: l.Format, QueryParameters: l.QueryParameters}
	}
	for _, p := range a.cfg.Declaration.Ports {
		out := bootstrap.Port{
			PortName: p.PortName, DiscoveryName: p.DiscoveryName, Protocol: p.Protocol, AppPort: p.ContainerPort, ListenerPort: p.IngressPort,
			IdleSeconds: seconds(p.Timeouts.Idle), PerRequestSeconds: seconds(p.Timeouts.PerRequest),
			Policy: p.Policy,
		}
		if app, ok := a.place.At(p.PortName); ok {
			out.AppAddress = app.String()
		}
		if p.TLS != nil {
			out.TLS = &bootstrap.PortTLS{Issuer: p.TLS.Issuer}
		}
		m.Ports = append(m.Ports, out)
	}
	return m
}

// serviceOf is the service that a port offers, discoveryName.namespace.
func (a *Agent) serviceOf(portName string) string {
	for _, p := range a.cfg.Declaration.Ports {
		if p.PortName == portName {
			return p.DiscoveryName + "." + a.member.Node().Workload.Namespace
		}
	}
	return ""
}

func seconds(d *time.Duration) *int64 {
	if d == nil {
		return nil
	}
	n := int64(*d / time.Second)
	return &n
}

// helloPort is a declared port with the names that its aliases have here.
func (a *Agent) helloPort(p declare.Port) *agentapi.Port {
	namespace := a.member.Node().Workload.Namespace
	out := &agentapi.Port{
		PortName: p.PortName, DiscoveryName: p.DiscoveryName, AppProtocol: string(p.Protocol),
		ContainerPort: uint32(p.ContainerPort), IngressPort: uint32(a.place.Registered(p)),
	}
	for _, alias := range p.Aliases {
		name := cmp.Or(alias.DNSName, p.DiscoveryName+"."+namespace)
		out.ClientAliases = append(out.ClientAliases, &agentapi.ClientAlias{DnsName: strings.ToLower(name), Port: uint32(alias.Port)})
	}
	if p.TLS != nil {
		out.Tls = &agentapi.Tls{Issuer: p.TLS.Issuer, Only: p.TLS.Only, KmsKey: p.TLS.KMSKey}
	}
	if p.Timeouts != (mesh.Timeouts{}) {
		out.Timeout = &agentapi.Timeout{Idle: duration(p.Timeouts.Idle), PerRequest: duration(p.Timeouts.PerRequest)}
	}
	out.Policy = p.Policy.Encode()
	return out
}

func duration(d *time.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(*d)
}

func (a *Agent) envoyLogLevel() string {
	if a.cfg.Declaration.LogLevel == "debug" {
		return "debug"
	}
	return "warning"
}

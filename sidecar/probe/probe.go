// Package probe finds out whether the ports that a task offers can be used: its
// application accepts connections, and Envoy takes them from others, with the
// port's certificate.
//
// It owns what has been seen of each port, and when that is a change. It must not
// know whom it is told to, nor what is done about a port that can't be used.
// Start reading at [Ports.Look].
package probe

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"patchbay/agentapi"
	"patchbay/declare"
)

// connectTime bounds one connection to the application.
const connectTime = 500 * time.Millisecond

// failures in a row that make an application unhealthy: one connection may be
// refused for reasons of its own.
const failures = 2

// Secrets are an Envoy's.
type Secrets interface {
	// Secrets are the names of those that are in use.
	Secrets(context.Context) (map[string]bool, error)
}

// Envoy is the task's as it was at one moment.
type Envoy struct {
	Live    bool
	Open    map[string]bool // listeners that accept connections; nil: not known
	Process int             // another one after a restart
}

// Ports are those that a task offers. [Ports.Look] is for one goroutine, the
// rest for any.
type Ports struct {
	offered []declare.Port
	secrets Secrets
	log     *slog.Logger

	certified map[string]int // ports that had their certificate, by portName, and in which of Envoy's processes

	mu   sync.Mutex
	apps map[string]app // by portName
}

// app is what is known of the application of one port.
type app struct {
	up     bool // it accepts connections
	misses int  // probes in a row that failed
}

// New returns the ports, of which nothing is known yet.
func New(offered []declare.Port, secrets Secrets, log *slog.Logger) *Ports {
	return &Ports{offered: offered, secrets: secrets, log: log, certified: map[string]int{}, apps: map[string]app{}}
}

// Task is what the ports' environment says of them.
type Task struct {
	// App is where the application of a port may be: at least one address, the
	// first of which is named where it is at none.
	App func(portName string) []netip.Addr
	// Unhealthy is why a port is not to be used although its application takes
	// connections; empty: nothing is known against it.
	Unhealthy func(declare.Port) string
}

// Look connects to every application. A port is healthy when its application
// accepts connections and Envoy takes them from others; why says, by portName,
// what is wrong with those that are not.
func (p *Ports) Look(ctx context.Context, e Envoy, t Task) (health map[string]agentapi.Health_State, why map[string]string) {
	health, why = map[string]agentapi.Health_State{}, map[string]string{}
	bare := p.bare(ctx, e)
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, port := range p.offered {
		all.Go(func() {
			err := accepts(ctx, t.App(port.PortName), port.ContainerPort)
			state, reason := p.judge(port, err == nil), ""
			unhealthy := t.Unhealthy(port)
			switch {
			case unhealthy != "":
				state, reason = agentapi.Health_UNHEALTHY, unhealthy
			case state == agentapi.Health_UNHEALTHY && err != nil:
				reason = "the application does not take connections: " + err.Error()
			case state == agentapi.Health_HEALTHY && e.Live && !e.Open["ingress-"+port.PortName]:
				state = agentapi.Health_UNHEALTHY // nobody could reach it
				reason = "Envoy does not listen for it yet: it may wait for the certificate"
			case state == agentapi.Health_HEALTHY && bare[port.PortName]:
				state = agentapi.Health_UNHEALTHY // Envoy would reset every connection
				reason = "Envoy waits for its certificate: if that lasts, `patchbay doctor` says why none is issued"
			}
			mu.Lock()
			defer mu.Unlock()
			health[port.PortName] = state
			if reason != "" {
				why[port.PortName] = reason
			}
		})
	}
	all.Wait()
	return health, why
}

// Dead are the ingress ports of those whose application accepts no connections,
// in the order of the declaration.
func (p *Ports) Dead() (out []uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, port := range p.offered {
		if !p.apps[port.PortName].up {
			out = append(out, port.IngressPort)
		}
	}
	return out
}

// accepts is nil if something listens on a port of the task, at one of the
// addresses.
func accepts(ctx context.Context, app []netip.Addr, port uint16) (first error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	for _, addr := range app {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(addr, port).String())
		if err == nil {
			return c.Close()
		}
		first = cmp.Or(first, err)
	}
	return first
}

// judge turns probes into a state: a first success counts at once, a failure
// after a success only when it repeats.
func (p *Ports) judge(port declare.Port, up bool) agentapi.Health_State {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.apps[port.PortName]
	if up {
		a = app{up: true}
	} else {
		a.misses++
		a.up = a.up && a.misses < failures
	}
	p.apps[port.PortName] = a
	if a.up {
		return agentapi.Health_HEALTHY
	}
	return agentapi.Health_UNHEALTHY
}

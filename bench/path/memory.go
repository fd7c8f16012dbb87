package path

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"patchbay/bench"
	"patchbay/internal/poll"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// Memory is what a sidecar needs by the size of its namespace.
var Memory = bench.Job{
	Name: "memory", Title: "Memory of a sidecar", Limit: 90 * time.Second,
	About: strings.Join([]string{
		"Resident memory of a client-only sidecar's Envoy, with two workers, when it has its configuration and before any request, by the number of services in its",
		"namespace (http with TLS, three endpoints each): with redirect wiring, where only one port is bound, and with bind wiring, where each alias has its socket;",
		"and of one whose task declares ten of a thousand services as `dependencies`.",
	}, "\n"),
	Run: memoryAll, Goals: memoryGoals,
}

const mMemory = "memory of Envoy"

func memoryAll(ctx context.Context, o bench.Options, part *bench.Part) error {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	part.Versions["envoy"] = w.envoyVersion
	sizes := []int{10, 100, 1000}
	for range o.Rounds(5, 1) {
		for _, wiring := range []mesh.Wiring{mesh.Redirect, mesh.Bind} {
			for _, n := range sizes {
				if err := w.footprint(ctx, part, wiring, n, 0); err != nil {
					return fmt.Errorf("%s, %d services: %w", wiring, n, err)
				}
			}
			if err := w.footprint(ctx, part, wiring, 1000, 10); err != nil {
				return fmt.Errorf("%s, dependencies: %w", wiring, err)
			}
		}
	}
	return nil
}

func memoryGoals(part *bench.Part) {
	for _, wiring := range []mesh.Wiring{mesh.Redirect, mesh.Bind} {
		small, large := part.Find(scenario(10), string(wiring), mMemory), part.Find(scenario(1000), string(wiring), mMemory)
		if small != nil && large != nil {
			part.Add("each service", string(wiring), mMemory, "kB", (large.Median-small.Median)*1000/990)
		}
	}
	for _, wiring := range []mesh.Wiring{mesh.Redirect, mesh.Bind} {
		all, declared := part.Find(scenario(10), string(wiring), mMemory), part.Find(declaring(1000, 10), string(wiring), mMemory)
		text := fmt.Sprintf("memory with 1,000 services of which the task declares ten as dependencies, against ten services, %s wiring", wiring)
		if all == nil || declared == nil {
			part.AtMost(1.2, "×", text, 0, false)
			continue
		}
		part.AtMost(1.2, "×", text, declared.Median/all.Median, true)
	}
}

func scenario(n int) string { return fmt.Sprintf("%d services", n) }

func declaring(n, dependencies int) string {
	if dependencies == 0 {
		return scenario(n)
	}
	return fmt.Sprintf("%s, %d of them dependencies", scenario(n), dependencies)
}

// footprint starts one Envoy in a namespace of n services, of which its task
// declares some as dependencies; 0: none.
func (w *world) footprint(ctx context.Context, part *bench.Part, wiring mesh.Wiring, n, dependencies int) error {
	port, err := freePort(vip.String())
	if err != nil {
		return err
	}
	var all []*mesh.Service
	for i := range n {
		name := fmt.Sprintf("service-%04d", i)
		s := &mesh.Service{
			Name: mesh.ServiceName{Namespace: namespace, DiscoveryName: name}, Protocol: mesh.HTTP, TLS: &mesh.ServiceTLS{Issuer: "default"},
			Aliases: []mesh.Alias{{DNSName: name, Port: port, VIP: netip.AddrFrom4([4]byte{127, 128, byte(10 + i/250), byte(1 + i%250)})}},
		}
		for e := range 3 {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(e), byte(i / 250), byte(1 + i%250)}), 15000)
			s.Endpoints = append(s.Endpoints, mesh.Endpoint{InstanceID: addr.String(), Addr: addr, Weight: 1, TLS: true})
		}
		all = append(all, s)
	}
	w.control.store.SetServices(namespace, all)
	defer w.control.store.SetServices(namespace, nil)
	meta, told := bootstrap.NodeMeta{Version: "bench", Wiring: wiring}, n
	for _, s := range all[:dependencies] {
		meta.Dependencies = append(meta.Dependencies, s.Name.DiscoveryName)
		told = dependencies
	}
	e, err := w.sidecar(ctx, "caller", meta)
	if err != nil {
		return err
	}
	defer e.stop()
	listeners, err := e.stats(`^listener_manager\.total_listeners_active$`)
	if err != nil {
		return err
	}
	if got := listeners["listener_manager.total_listeners_active"]; got < float64(told) || got > float64(told+1) {
		return fmt.Errorf("Envoy has %v listeners", got)
	}
	rss, err := e.settled(ctx)
	if err != nil {
		return err
	}
	part.Add(declaring(n, dependencies), string(wiring), mMemory, "MB", rss/1e6)
	w.Say("  %-8s %s: %.1f MB", wiring, declaring(n, dependencies), rss/1e6)
	return nil
}

// settled is the resident memory when it has not changed by more than 1 % for
// half a second.
func (e *envoy) settled(ctx context.Context) (float64, error) {
	last, same := 0.0, 0
	err := poll.Until(ctx, 20*time.Second, func() error {
		rss, err := bench.RSS(e.cmd.Process.Pid)
		if err != nil {
			return err
		}
		if same++; math.Abs(rss-last) > last/100 {
			same, last = 0, rss
		}
		if same < 25 {
			return fmt.Errorf("its memory still changes: %.1f MB", rss/1e6)
		}
		return nil
	})
	return last, err
}

package reaper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"patchbay/mesh"
)

var backend = mesh.Workload{Namespace: "prod", Name: "backend", DiscoveryNames: []string{"backend"}}

// world is what a reaper sees and does.
type world struct {
	mu        sync.Mutex // of reaped
	services  []*mesh.Service
	workloads []mesh.Workload
	gone      map[string]bool // "workload task"
	err       error           // of ECS
	broken    error           // of the registry
	connected map[string]bool
	reaped    []string
	asked     int
	log       bytes.Buffer
}

func (w *world) Workloads() []mesh.Workload { return w.workloads }

func (w *world) Gone(_ context.Context, wl mesh.Workload, tasks []string) (map[string]bool, error) {
	w.asked++
	out := map[string]bool{}
	for _, t := range tasks {
		if !strings.HasPrefix(t, "host-") { // what nobody can know
			out[t] = w.gone[wl.Name+" "+t]
		}
	}
	return out, w.err
}

func (w *world) Reap(_ context.Context, s mesh.ServiceName, id, task string) (bool, error) {
	if w.broken != nil {
		return false, w.broken
	}
	for _, v := range w.services {
		if v.Name != s {
			continue
		}
		before := len(v.Endpoints)
		v.Endpoints = slices.DeleteFunc(v.Endpoints, func(e mesh.Endpoint) bool { return e.InstanceID == id && strings.HasPrefix(id, task+".") })
		if len(v.Endpoints) < before {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.reaped = append(w.reaped, id)
			return true, nil
		}
	}
	return false, nil
}

// put makes a service with tasks t0, t1, … in a namespace.
func (w *world) put(namespace, name string, n int) {
	s := &mesh.Service{Name: mesh.ServiceName{Namespace: namespace, DiscoveryName: name}}
	for i := range n {
		s.Endpoints = append(s.Endpoints, mesh.Endpoint{InstanceID: fmt.Sprintf("t%02d.web", i), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80)})
	}
	w.services = append(w.services, s)
}

func newWorld() *world {
	return &world{workloads: []mesh.Workload{backend}, gone: map[string]bool{}, connected: map[string]bool{}}
}

func (w *world) reaper(change ...func(*Config)) *Reaper {
	c := Config{
		Snapshot: func() *mesh.Snapshot { return &mesh.Snapshot{Services: w.services} }, Tasks: w, Registry: w,
		Connected: func() map[string]bool { return w.connected }, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
	}
	for _, f := range change {
		f(&c)
	}
	return New(c)
}

func (w *world) want(t *testing.T, ids ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.reaped, ids) {
		t.Errorf("reaped %v; want %v\n%s", w.reaped, ids, w.log.String())
	}
	w.reaped = nil
}

func TestGoneTwice(t *testing.T) {
	w := newWorld()
	w.put("prod", "backend", 3)
	r := w.reaper()
	w.gone["backend t01"] = true
	r.Sweep(t.Context())
	w.want(t)
	w.gone["backend t01"] = false // ECS was behind: it is there
	r.Sweep(t.Context())
	w.gone["backend t01"] = true
	r.Sweep(t.Context())
	w.want(t)
	r.Sweep(t.Context())
	w.want(t, "t01.web")
	r.Sweep(t.Context())
	w.want(t)
}

func TestConnectedIsNeverReaped(t *testing.T) {
	w := newWorld()
	w.put("prod", "backend", 2)
	w.gone["backend t00"], w.gone["backend t01"] = true, true
	w.connected["t00"] = true
	r := w.reaper()
	for range 4 {
		r.Sweep(t.Context())
	}
	w.want(t, "t01.web")
}

// TestAFifthAtMost: of a namespace, in each sweep; but always one.
func TestAFifthAtMost(t *testing.T) {
	for _, c := range []struct{ instances, each int }{{1, 1}, {4, 1}, {9, 1}, {10, 2}, {23, 4}} {
		w := newWorld()
		w.put("prod", "backend", c.instances)
		w.put("other", "backend", 50) // does not count here, and nobody knows its tasks
		for i := range c.instances {
			w.gone[fmt.Sprintf("backend t%02d", i)] = true
		}
		r := w.reaper()
		r.Sweep(t.Context())
		w.want(t)
		r.Sweep(t.Context())
		if len(w.reaped) != c.each {
			t.Errorf("of %d: %d; want %d", c.instances, len(w.reaped), c.each)
		}
		if c.instances > c.each && !strings.Contains(w.log.String(), fmt.Sprintf("waiting=%d", c.instances-c.each)) {
			t.Errorf("of %d, what waits is not said:\n%s", c.instances, w.log.String())
		}
		for range 60 {
			r.Sweep(t.Context())
		}
		if len(w.reaped) != c.instances || len(w.services[1].Endpoints) != 50 {
			t.Errorf("at last %d of %d, %d of the other's", len(w.reaped), c.instances, len(w.services[1].Endpoints))
		}
	}
}

// TestWithoutECS: what ECS can't be asked about is left, and the reason is told
// once.
func TestWithoutECS(t *testing.T) {
	w := newWorld()
	w.put("prod", "backend", 2)
	w.gone["backend t00"], w.gone["backend t01"] = true, true
	w.err = errors.New("this statement allows it")
	r := w.reaper()
	for range 5 {
		r.Sweep(t.Context())
	}
	w.want(t)
	if n := strings.Count(w.log.String(), "this statement allows it"); n != 1 {
		t.Errorf("told %d times:\n%s", n, w.log.String())
	}
	w.err = nil
	r.Sweep(t.Context())
	w.want(t) // once is not twice
	r.Sweep(t.Context())
	w.want(t, "t00.web")
}

// TestSharedService: two workloads offer it, each in its own cluster, whose ECS
// does not know the other's tasks.
func TestSharedService(t *testing.T) {
	w := newWorld()
	w.workloads = append(w.workloads, mesh.Workload{Namespace: "prod", Name: "canary", DiscoveryNames: []string{"backend"}})
	w.put("prod", "backend", 3)
	for i := range 3 {
		w.gone[fmt.Sprintf("canary t%02d", i)] = true
	}
	w.gone["canary t02"], w.gone["backend t00"], w.gone["backend t02"] = false, true, true
	r := w.reaper()
	for range 3 {
		r.Sweep(t.Context())
	}
	w.want(t, "t00.web")
}

// TestTheRegistryFails: it is tried again.
func TestTheRegistryFails(t *testing.T) {
	w := newWorld()
	w.put("prod", "backend", 1)
	w.gone["backend t00"] = true
	w.broken = errors.New("throttled")
	r := w.reaper()
	for range 3 {
		r.Sweep(t.Context())
	}
	w.want(t)
	w.broken = nil
	r.Sweep(t.Context())
	w.want(t, "t00.web")
}

// TestForeignInstances: an id that is not of our form is nobody's task.
func TestForeignInstances(t *testing.T) {
	w := newWorld()
	w.put("prod", "backend", 1)
	w.services[0].Endpoints[0].InstanceID = "i-0123"
	w.gone["backend "], w.gone["backend i-0123"] = true, true
	r := w.reaper(func(c *Config) { c.Alone = true })
	for range 3 {
		r.Sweep(t.Context())
	}
	w.want(t)
	if w.asked != 0 {
		t.Errorf("ECS was asked %d times", w.asked)
	}
}

// TestAlone: without another control plane, silence is an end, after ten
// minutes, of what AWS does not know; with one it is not.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, alone := range []bool{false, true} {
			w := newWorld()
			w.put("stage", "batch", 2) // no workload's
			w.connected["t01"] = true
			w.put("prod", "backend", 2) // AWS says that these are there
			w.services[1].Endpoints[1].InstanceID = "host-1.web"
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- w.reaper(func(c *Config) { c.Alone = alone }).Run(ctx) }()
			time.Sleep(silence + Every - time.Second)
			synctest.Wait()
			w.want(t)
			time.Sleep(2 * Every)
			synctest.Wait()
			if alone {
				w.want(t, "host-1.web", "t00.web")
			} else {
				w.want(t)
			}
			stop()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}

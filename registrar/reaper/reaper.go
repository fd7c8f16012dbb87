// Package reaper takes tasks out of the registry that have ended without
// saying so. It is for Cloud Map, where an instance stays for ever; our own
// registry has leases.
//
// It owns when an instance counts as that of a dead task, and how many may go
// at once. It must not know how AWS is asked ([Tasks]) nor how the registry is
// written ([Registry]). Start reading at [Reaper.Sweep].
//
// Its rules, each of which is a test:
//
//   - ECS, or EC2, must have said twice, a sweep apart, that the task is gone.
//     What it can't be asked about is left alone.
//   - A task whose agent is connected here is never reaped.
//   - At most a fifth of a namespace's instances go in one sweep, but one may
//     always.
//   - The order is the same in every replica, taking out what is out already
//     does nothing, and what another has taken out counts among the fifth, so
//     that replicas need not agree who sweeps.
package reaper

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"patchbay/mesh"
)

// Every is the time between two sweeps.
const Every = time.Minute

// share is what part of a namespace may go in one sweep: one in five.
const share = 5

// silence is how long an agent must not have been connected to the only
// control plane for its task to count as dead ([Config.Alone]). It is longer
// than any restart of a control plane takes.
const silence = 10 * time.Minute

// Tasks knows which tasks there are.
type Tasks interface {
	// Workloads are those whose tasks it knows.
	Workloads() []mesh.Workload
	// Gone tells which of the tasks of a workload have ended (true) and which
	// have not. Those that it can't know are left out. An error says what to
	// do; then nothing is known of any.
	Gone(ctx context.Context, w mesh.Workload, tasks []string) (map[string]bool, error)
}

// Registry takes instances out.
type Registry interface {
	// Reap deregisters an instance of ours if it still belongs to this task.
	// It reports whether it has.
	Reap(ctx context.Context, service mesh.ServiceName, instanceID, task string) (bool, error)
}

// Config is what New needs; all but Alone and Reaped are required.
type Config struct {
	Snapshot  func() *mesh.Snapshot
	Tasks     Tasks
	Registry  Registry
	Connected func() map[string]bool // names of the tasks whose agents are connected here
	// Alone says that there is no other control plane, so that the task of an
	// agent that is not connected here has ended: also tasks that AWS does not
	// know are reaped then, after ten minutes.
	Alone  bool
	Reaped func(service mesh.ServiceName, instanceID, why string) // is told of each
	Log    *slog.Logger
}

// Reaper is used by one goroutine.
type Reaper struct {
	cfg      Config
	suspects map[instance]bool      // dead at the last sweep, and left
	heard    map[instance]time.Time // last known to be connected; Alone only
	told     map[string]string      // the last error of a workload
}

// instance is one candidate.
type instance struct {
	service mesh.ServiceName
	id      string
}

// task is the part of an instance's id that names the task: the port's name,
// which has no dot, follows it.
func (i instance) task() string {
	return i.id[:max(strings.LastIndexByte(i.id, '.'), 0)]
}

func compare(a, b instance) int {
	return cmp.Or(a.service.Compare(b.service), strings.Compare(a.id, b.id))
}

// New touches nothing.
func New(cfg Config) *Reaper {
	if cfg.Reaped == nil {
		cfg.Reaped = func(mesh.ServiceName, string, string) {}
	}
	return &Reaper{cfg: cfg, heard: map[instance]time.Time{}, told: map[string]string{}}
}

// Run sweeps every minute until ctx ends, and returns its cause.
func (r *Reaper) Run(ctx context.Context) error {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			r.Sweep(ctx)
		}
	}
}

// found is a dead instance.
type found struct {
	instance
	why string
}

// Sweep looks at every instance once and takes out those that were dead at the
// last sweep already.
func (r *Reaper) Sweep(ctx context.Context) {
	connected := r.cfg.Connected()
	all := map[string]int{} // instances by namespace
	present := map[instance]bool{}
	var candidates []instance
	for _, s := range r.cfg.Snapshot().Services {
		for _, e := range s.Endpoints {
			all[s.Name.Namespace]++
			i := instance{s.Name, e.InstanceID}
			present[i] = true
			if i.task() != "" && !connected[i.task()] {
				candidates = append(candidates, i)
			}
		}
	}
	dead, known := r.dead(ctx, candidates)
	if r.cfg.Alone {
		dead = append(dead, r.silent(candidates, known)...)
	}
	slices.SortFunc(dead, func(a, b found) int { return compare(a.instance, b.instance) })
	suspects, tried, waiting := map[instance]bool{}, map[string]int{}, map[string]int{}
	for i := range r.suspects {
		if !present[i] { // another replica took it since
			tried[i.service.Namespace]++
		}
	}
	for _, d := range dead {
		ns := d.service.Namespace
		suspects[d.instance] = true
		switch {
		case !r.suspects[d.instance]:
		case tried[ns] >= max(1, all[ns]/share):
			waiting[ns]++
		default:
			tried[ns]++
			if r.reap(ctx, d) {
				delete(suspects, d.instance)
			}
		}
	}
	r.suspects = suspects
	for _, ns := range slices.Sorted(maps.Keys(waiting)) {
		r.cfg.Log.WarnContext(ctx, "more instances of ended tasks wait for the next sweep: a fifth of a namespace may go at once", "namespace", ns, "waiting", waiting[ns], "instances", all[ns])
	}
}

// dead are the candidates that AWS knows to have ended. Several workloads may
// offer a service: then whoever can know a task must have said so. Known are
// those that AWS was asked about, whatever it said.
func (r *Reaper) dead(ctx context.Context, candidates []instance) (out []found, known map[instance]bool) {
	verdicts := map[instance]bool{} // absent: nobody can know
	for _, w := range r.cfg.Tasks.Workloads() {
		var mine []instance
		tasks := map[string]bool{}
		for _, i := range candidates {
			if w.Offers(i.service) {
				mine = append(mine, i)
				tasks[i.task()] = true
			}
		}
		if len(mine) == 0 {
			continue
		}
		gone, err := r.cfg.Tasks.Gone(ctx, w, slices.Sorted(maps.Keys(tasks)))
		r.tell(ctx, w, err)
		for _, i := range mine {
			ended, can := gone[i.task()]
			if !can && err == nil {
				continue
			}
			before, asked := verdicts[i]
			verdicts[i] = err == nil && ended && (before || !asked)
		}
	}
	known = map[instance]bool{}
	for i, gone := range verdicts {
		known[i] = true
		if gone {
			out = append(out, found{i, "AWS has no such task or instance, or has stopped it"})
		}
	}
	return out, known
}

// tell logs an error once, and its end.
func (r *Reaper) tell(ctx context.Context, w mesh.Workload, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == r.told[w.String()] {
		return
	}
	r.told[w.String()] = text
	if err != nil {
		r.cfg.Log.WarnContext(ctx, "tasks that have ended can't be told, so that none is taken out of the registry", "workload", w.String(), "error", text)
		return
	}
	r.cfg.Log.InfoContext(ctx, "tasks that have ended can be told again", "workload", w.String())
}

// silent are the candidates that AWS does not know and whose agents have been
// away for long.
func (r *Reaper) silent(candidates []instance, known map[instance]bool) []found {
	now := time.Now()
	var out []found
	heard := map[instance]time.Time{}
	for _, i := range candidates {
		if known[i] {
			continue
		}
		since, ok := r.heard[i]
		if !ok {
			since = now
		}
		heard[i] = since
		if now.Sub(since) >= silence {
			out = append(out, found{instance: i, why: "its agent has not been connected for " + silence.String()})
		}
	}
	r.heard = heard
	return out
}

// reap reports whether the instance is out of the registry.
func (r *Reaper) reap(ctx context.Context, d found) bool {
	there, err := r.cfg.Registry.Reap(ctx, d.service, d.id, d.task())
	switch {
	case err != nil:
		r.cfg.Log.WarnContext(ctx, "the instance of a task that has ended stays in the registry; the next sweep tries again", "service", d.service.String(), "instance", d.id, "error", err)
	case there:
		r.cfg.Log.InfoContext(ctx, "took an instance out of the registry", "service", d.service.String(), "instance", d.id, "reason", d.why)
		r.cfg.Reaped(d.service, d.id, d.why)
	}
	return err == nil
}

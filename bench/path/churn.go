package path

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"patchbay/bench"
	"patchbay/mesh"
)

// Churn is the data path while the mesh changes.
var Churn = bench.Job{
	Name: "churn", Title: "Data path while the mesh changes", Limit: 150 * time.Second,
	About: strings.Join([]string{
		"One caller, two called tasks, TLS 1.3, the fixed rate of the open loop; 100 other services in the namespace. *Endpoint churn*: five times a second one of the two",
		"endpoints that are called leaves or comes back, ten times a second an endpoint of another service is replaced. *Leaf rotation*: four times a second",
		"the called service gets a new certificate. Quiet and disturbed runs take turns on the same Envoys. CPU is that of all three Envoys by request, including",
		"what they do with the changes.",
	}, "\n"),
	Run: churnAll, Goals: churnGoals,
}

const (
	others = 100 // services that the caller knows and does not call

	quiet    = "quiet"
	churn    = "endpoint churn"
	rotation = "leaf rotation"

	newConnections = "tcp, a new connection for each request"
)

// call is how the caller calls.
type call struct {
	name     string
	protocol string
	rate     int
	fresh    bool // a new connection, and so a handshake between Envoys, for each request
}

func churnAll(ctx context.Context, o bench.Options, part *bench.Part) error {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	part.Versions["envoy"] = w.envoyVersion
	rate, err := w.calibrate(ctx)
	if err != nil {
		return err
	}
	part.Notes = append(part.Notes, fmt.Sprintf("The fixed rate is %d requests per second, an eighth of it where each has its own connection.", rate))
	r, err := w.openOurs(ctx, oursTLS, 2)
	if err != nil {
		return err
	}
	defer r.stop()
	m := newMover(w.control, r)
	// A new connection costs much more than a request.
	calls := []call{{"http", "http", rate, false}, {"grpc", "grpc", rate, false}, {"tcp", "tcp", rate, false}, {newConnections, "tcp", rate / 8, true}}
	for round := range o.Rounds(5, 1) {
		for _, c := range calls {
			for _, what := range rotated([]string{quiet, churn, rotation}, round) {
				if err := w.disturbed(ctx, part, r, m, c, what); err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, what, err)
				}
			}
		}
	}
	return nil
}

// churnGoals compares with the quiet runs.
func churnGoals(part *bench.Part) {
	for _, p := range []string{"http", "grpc", "tcp", newConnections} {
		for _, what := range []string{churn, rotation} {
			var failed float64
			f := part.Find(p, what, mFailed)
			if f != nil {
				for _, n := range f.Runs {
					failed += n
				}
			}
			part.AtMost(0, "", p+": failed requests in all runs, "+what, failed, f != nil)
			v, ok := part.Ratio(p, what, quiet, mCPU)
			part.AtMost(1.1, "×", p+": CPU per request, "+what+" against quiet", v, ok)
		}
	}
}

// disturbed is one run of one protocol. It makes sure that the changes arrived.
func (w *world) disturbed(ctx context.Context, part *bench.Part, r *route, m *mover, c call, what string) error {
	p := c.protocol
	before, err := r.heard(p)
	if err != nil {
		return err
	}
	stop := m.start(ctx, p, what)
	l, cost, err := w.steady(ctx, r, c, 2*time.Second)
	changes := stop()
	if err != nil {
		return err
	}
	m.restore()
	after, err := r.heard(p)
	if err != nil {
		return err
	}
	endpoints, leaves := after.endpoints-before.endpoints, after.leaves-before.leaves
	if what == churn && endpoints < 2 || what == rotation && leaves < 2 {
		return fmt.Errorf("the Envoys heard of %v new endpoints and %v new leaves", endpoints, leaves)
	}
	part.Add(c.name, what, mFailed, "", float64(l.Failed))
	part.Add(c.name, what, mCPU, "µs", cost)
	part.Add(c.name, what, mP50, "ms", l.P50)
	part.Add(c.name, what, mP99, "ms", l.P99)
	part.Add(c.name, what, "changes made", "", float64(changes))
	w.Say("  %-15s %-6.6s %5.0f µs, p50 %.2f p99 %.2f ms, %d of %d failed %v, %d changes", what, c.name, cost, l.P50, l.P99, l.Failed, l.Sent, l.Errors, changes)
	return nil
}

// heard is what the Envoys were told.
type heard struct{ endpoints, leaves float64 }

func (r *route) heard(protocol string) (h heard, err error) {
	out, err := r.envoys[len(r.envoys)-1].stats(`^cluster\.` + protocol + `\.prod\.update_success$`)
	if err != nil {
		return h, err
	}
	in, err := r.envoys[0].stats(`^listener\..*ssl_context_update_by_sds$`)
	for _, v := range in {
		h.leaves += v
	}
	h.endpoints = out["cluster."+protocol+".prod.update_success"]
	return h, err
}

// mover changes the mesh.
type mover struct {
	control *control
	called  []*mesh.Service // as they are while it is quiet
	others  []*mesh.Service
	serial  int
}

func newMover(c *control, r *route) *mover {
	m := &mover{control: c, called: offered(r.offers, r.aliases)}
	for i := range others {
		s := &mesh.Service{Name: mesh.ServiceName{Namespace: namespace, DiscoveryName: fmt.Sprintf("other-%03d", i)}, Protocol: mesh.HTTP}
		for e := range 5 {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), byte(1 + e)}), 15000)
			s.Endpoints = append(s.Endpoints, mesh.Endpoint{InstanceID: addr.String(), Addr: addr, Weight: 1})
		}
		m.others = append(m.others, s)
	}
	m.restore()
	return m
}

func (m *mover) restore() { m.control.store.SetServices(namespace, slices.Concat(m.called, m.others)) }

// start changes what has to be changed, until the function that it returns is
// called, which tells how many changes there were.
func (m *mover) start(ctx context.Context, protocol, what string) (stop func() int) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan int)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		made := 0
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				done <- made
				return
			case <-tick.C:
			}
			switch {
			case what == churn:
				m.churn(protocol, n)
				made++
			case what == rotation && (n%5 == 0 || n%5 == 2): // four in ten
				m.serial++
				made++
				m.control.issue(protocol, fmt.Sprint(m.serial)) //nolint:errcheck // it was issued before; if not, nothing arrives
			}
		}
	}()
	return func() int { cancel(); return <-done }
}

// churn replaces an endpoint of another service, and each second time takes one
// of the called endpoints out or puts it back.
func (m *mover) churn(protocol string, n int) {
	o := *m.others[n%others]
	o.Endpoints = slices.Clone(o.Endpoints)
	e := &o.Endpoints[n%len(o.Endpoints)]
	e.Addr = netip.AddrPortFrom(e.Addr.Addr(), e.Addr.Port()%20000+1)
	m.others[n%others] = &o
	called := slices.Clone(m.called)
	for i, s := range called {
		if s.Name.DiscoveryName == protocol && n/2%2 == 0 {
			c := *s
			gone := n / 4 % len(s.Endpoints)
			c.Endpoints = slices.Delete(slices.Clone(s.Endpoints), gone, gone+1)
			called[i] = &c
		}
	}
	m.control.store.SetServices(namespace, slices.Concat(called, m.others))
}

// Package day simulates a day of discovery in AWS Cloud Map: a hundred services,
// a change a minute, two replicas that share the polling, and the books of every
// call. Time is that of a synctest bubble, so that a day takes seconds.
//
// It owns what happens on the day and what is made of the books. It must not know
// how discovery decides when to ask: that is the real code. Start reading at
// [Job] and [Case.day].
package day

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"patchbay/bench"
	"patchbay/discovery"
	"patchbay/discovery/cost"
	"patchbay/mesh"
	"patchbay/replicas"
	"patchbay/replicas/directory"
)

// Case is what kind of mesh it is.
type Case struct {
	Name    string
	Foreign bool // nobody tells of changes
	Checked bool // every service has a Cloud Map health check
}

// Cases are those of the page.
var Cases = []Case{{Name: "hinted"}, {Name: "unhinted", Foreign: true}, {Name: "health checks everywhere", Checked: true}}

// Result is what the books of a day say.
type Result struct {
	Calls     map[string]int
	Dollars   float64         // of a month of such days
	Throttled int             //
	Seen      []time.Duration // of each change: until the last replica showed it
	Asked     time.Duration   // real time that the simulation took
}

const (
	services = 100
	both     = 2 // replicas
	// settle is how long the start may take: it is not part of the day.
	settle = 5 * time.Minute
	// patience is how long a change is waited for.
	patience = 55 * time.Second
)

// Job is the part of make bench.
var Job = bench.FromRows("day", "A day of Cloud Map",
	"A simulated day of a hundred services with one change a minute, followed by two control planes that share the polling, over a stand-in of Cloud Map that keeps the books and throttles as AWS does. "+
		"The bill is that of thirty such days, all replicas and their directory together, by the price list of `patchbay cost`. Hinted: changes are made through patchbay, or told by events of ECS; unhinted: by others.",
	5*time.Minute, measure)

func measure(ctx context.Context, o bench.Options) ([]bench.Row, error) {
	var rows []bench.Row
	hinted := 0.0
	for _, c := range Cases {
		o.Say("a day: %s", c.Name)
		r, err := c.apart(ctx, o)
		if err != nil {
			return rows, err
		}
		if c == Cases[0] {
			hinted = r.Dollars
		}
		rows = append(rows, r.rows(c, hinted)...)
	}
	return rows, nil
}

// rows holds a day against what was aimed at.
func (r Result) rows(c Case, hinted float64) []bench.Row {
	calls := 0
	for _, n := range r.Calls {
		calls += n
	}
	most, latest := 20.0, 2.0
	switch {
	case c.Foreign:
		most, latest = 35, 15
	case c.Checked:
		most = hinted + 9
	}
	goal := func(what string) string { return what + ", " + c.Name }
	slices.Sort(r.Seen)
	middle, last := r.Seen[len(r.Seen)/2], r.Seen[len(r.Seen)-1]
	return []bench.Row{
		{Scenario: c.Name, Variant: "two replicas", Metric: "bill of a month", Unit: "$", Values: []float64{r.Dollars}, Goal: goal("dollars a month"), Limit: most},
		{Scenario: c.Name, Variant: "two replicas", Metric: "calls in the day", Unit: "", Values: []float64{float64(calls)}},
		{Scenario: c.Name, Variant: "two replicas", Metric: "detection, median", Unit: "s", Values: []float64{middle.Seconds()}},
		{Scenario: c.Name, Variant: "two replicas", Metric: "detection, slowest", Unit: "s", Values: []float64{last.Seconds()}, Goal: goal("seconds until the last replica shows a change"), Limit: latest},
		{Scenario: c.Name, Variant: "two replicas", Metric: "throttled calls", Unit: "", Values: []float64{float64(r.Throttled)}, Goal: goal("throttled calls in a day"), Limit: 0},
	}
}

// length is a day, or an hour of a quick run.
func length(quick bool) time.Duration {
	if quick {
		return time.Hour
	}
	return 24 * time.Hour
}

// apart runs the case in a process of its own: bubbles of synctest belong to
// tests, so that the process is one ([Main]).
func (c Case) apart(ctx context.Context, o bench.Options) (Result, error) {
	out, err := os.CreateTemp(o.Dir, "day-*.json")
	if err != nil {
		return Result{}, err
	}
	out.Close()
	cmd := exec.CommandContext(ctx, o.Self, "day", c.Name, length(o.Quick).String(), out.Name())
	text, err := cmd.CombinedOutput()
	if err != nil {
		return Result{}, fmt.Errorf("a day, %s: %w: %s", c.Name, err, text)
	}
	b, err := os.ReadFile(out.Name())
	if err != nil {
		return Result{}, err
	}
	var r Result
	return r, json.Unmarshal(b, &r)
}

// Main makes this process a test that simulates one case and writes its result
// to a file. It does not return.
func Main(name string, length time.Duration, file string) {
	os.Args = os.Args[:1] // no flags for the test
	i := slices.IndexFunc(Cases, func(c Case) bool { return c.Name == name })
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "Day", F: func(t *testing.T) {
		if i < 0 {
			t.Fatalf("there is no case %q", name)
		}
		began := time.Now()
		r := Cases[i].Simulate(t, length)
		r.Asked = time.Since(began)
		b, err := json.Marshal(r)
		if err == nil {
			err = os.WriteFile(file, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}}}, nil, nil)
}

// Simulate is the case over so long, by the clock of a bubble.
func (c Case) Simulate(t *testing.T, length time.Duration) (r Result) {
	synctest.Test(t, func(t *testing.T) { r = c.day(t, length) })
	return r
}

// day is what happens.
func (c Case) day(t *testing.T, length time.Duration) Result {
	reg := newRegistry()
	for i := range services {
		if err := reg.add(name(i), !c.Foreign, c.Checked); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer func() { stop(); running.Wait() }()
	lines := &exchange{doors: map[string]*door{}}
	planes := make([]*plane, both)
	for i := range planes {
		planes[i] = newPlane(t, ctx, &running, reg, lines, fmt.Sprintf("10.9.0.%d:18005", i+1))
	}
	time.Sleep(settle)
	for i, p := range planes {
		if !p.replicas.Complete() || len(p.store.Snapshot().Services) != services {
			t.Fatalf("replica %d: %v, %d services", i, p.replicas.Status(), len(p.store.Snapshot().Services))
		}
	}
	reg.start()
	r := Result{}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same day every time
	for minute := range int(length / time.Minute) {
		began := time.Now()
		s := name(random.IntN(services))
		reg.change(s, 2+minute)
		if !c.Foreign { // made through the first
			planes[0].discovery.Hint(mesh.ServiceName{Namespace: "prod", DiscoveryName: s})
		}
		want := reg.ids(s)
		for !shown(planes, s, want) && time.Since(began) < patience {
			time.Sleep(50 * time.Millisecond)
		}
		r.Seen = append(r.Seen, time.Since(began))
		time.Sleep(time.Minute - time.Since(began))
	}
	r.Calls, r.Throttled = reg.books()
	for op, n := range r.Calls {
		r.Dollars += cost.Of(op) * float64(n) * float64(cost.Month) / float64(length)
	}
	return r
}

func name(i int) string { return fmt.Sprintf("s%d", i) }

func shown(planes []*plane, service string, want []string) bool {
	for _, p := range planes {
		s := p.store.Snapshot().Service(mesh.ServiceName{Namespace: "prod", DiscoveryName: service})
		if s == nil || len(s.Endpoints) != len(want) {
			return false
		}
		for _, e := range s.Endpoints {
			if !slices.Contains(want, e.InstanceID) {
				return false
			}
		}
	}
	return true
}

// plane is a control plane as far as the registry goes.
type plane struct {
	store     *mesh.Store
	discovery *discovery.CloudMap
	replicas  *replicas.Replicas
}

func newPlane(t *testing.T, ctx context.Context, running *sync.WaitGroup, reg *registry, lines *exchange, self string) *plane {
	log := slog.New(slog.DiscardHandler)
	p := &plane{store: mesh.NewStore()}
	p.replicas = replicas.New(replicas.Options{Self: self, Log: log, Dial: lines.dial, Directory: directory.New(directory.Options{Namespace: "prod"}, reg)})
	var err error
	p.discovery, err = discovery.New(discovery.Config{Namespaces: []discovery.Namespace{{Name: "prod"}}, Share: p.replicas}, reg, p.store, log)
	if err != nil {
		t.Fatal(err)
	}
	p.replicas.Follow(p.discovery, nil, nil, nil)
	running.Go(func() { _ = p.discovery.Run(ctx) })                  // ends with its context
	running.Go(func() { _ = p.replicas.Run(ctx, lines.door(self)) }) // likewise
	return p
}

// exchange joins replicas by pipes.
type exchange struct {
	mu    sync.Mutex
	doors map[string]*door
}

// door is the listener of one of them.
type door struct {
	calls chan net.Conn
	done  chan struct{}
	close func()
}

func (x *exchange) door(self string) *door {
	d := &door{calls: make(chan net.Conn), done: make(chan struct{})}
	d.close = sync.OnceFunc(func() { close(d.done) })
	x.mu.Lock()
	defer x.mu.Unlock()
	x.doors[self] = d
	return d
}

var errNobody = errors.New("nobody listens there")

func (x *exchange) dial(ctx context.Context, address string) (net.Conn, error) {
	x.mu.Lock()
	d := x.doors[address]
	x.mu.Unlock()
	if d == nil {
		return nil, errNobody
	}
	here, there := net.Pipe()
	select {
	case d.calls <- there:
		return here, nil
	case <-d.done:
		return nil, errNobody
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.calls:
		return c, nil
	case <-d.done:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error   { d.close(); return nil }
func (d *door) Addr() net.Addr { return &net.TCPAddr{} }

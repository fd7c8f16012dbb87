package replicas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"patchbay/mesh"
)

// hall is a network of pipes and the directory of those in it.
type hall struct {
	mu     sync.Mutex
	listed map[string]bool
	doors  map[string]chan net.Conn
	lines  map[string][]net.Conn // by either end
	deaf   map[string]bool       // can't be reached
	forgot []string
}

func newHall() *hall {
	return &hall{listed: map[string]bool{}, doors: map[string]chan net.Conn{}, lines: map[string][]net.Conn{}, deaf: map[string]bool{}}
}

func (h *hall) Join(ctx context.Context, self string) error {
	h.do(func() { h.listed[self] = true })
	<-ctx.Done()
	return ctx.Err()
}

func (h *hall) List(context.Context) (list []string, err error) {
	h.do(func() { list = slices.Sorted(maps.Keys(h.listed)) })
	return list, nil
}

func (h *hall) Forget(_ context.Context, replica string) error {
	h.do(func() { delete(h.listed, replica); h.forgot = append(h.forgot, replica) })
	return nil
}

func (h *hall) do(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (h *hall) dial(ctx context.Context, from, to string) (net.Conn, error) {
	here, there := net.Pipe()
	var door chan net.Conn
	h.do(func() {
		if !h.deaf[to] && !h.deaf[from] {
			door = h.doors[to]
			h.lines[to], h.lines[from] = append(h.lines[to], here), append(h.lines[from], here)
		}
	})
	if door == nil {
		return nil, errors.New("connection refused")
	}
	select {
	case door <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cut makes a replica unreachable, as if it had died.
func (h *hall) cut(name string) {
	h.do(func() {
		h.deaf[name] = true
		for _, c := range h.lines[name] {
			c.Close()
		}
	})
}

type door struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.conns:
		return c, nil
	case <-d.done:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error { d.once.Do(func() { close(d.done) }); return nil }

func (d *door) Addr() net.Addr { return &net.TCPAddr{} }

// follower notes what it hears.
type follower struct {
	mu      sync.Mutex
	told    map[mesh.ServiceName]uint64
	leaving []string
	again   int
	stored  map[mesh.ServiceName]uint64
}

func (f *follower) store(s mesh.ServiceName, generation uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stored[s] = generation
}

func (f *follower) Told(s mesh.ServiceName, mark uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told[s] = mark
}

func (f *follower) Leaving(s mesh.ServiceName, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaving = append(f.leaving, s.String()+"/"+id)
}

func (f *follower) Reconsider() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.again++
}

// subscribers of one replica.
type subscribers struct {
	missing []string
	after   time.Duration
}

func (s subscribers) Removed(ctx context.Context, _ mesh.ServiceName, _ netip.AddrPort) ([]string, error) {
	if !sleep(ctx, s.after) {
		return s.missing, context.Cause(ctx)
	}
	return nil, nil
}

type one struct {
	*Replicas
	name     string
	unfit    atomic.Bool
	follower *follower
	stop     context.CancelFunc
	shows    atomic.Pointer[string] // its content
	taken    sync.Map               // proofs, by id
}

func (o *one) show(content string) { o.shows.Store(&content) }

func (o *one) took(id string) bool { _, yes := o.taken.Load(id); return yes }

func (h *hall) enter(t *testing.T, n int, b Barrier) *one {
	t.Helper()
	f := &follower{told: map[mesh.ServiceName]uint64{}, stored: map[mesh.ServiceName]uint64{}}
	o := &one{name: fmt.Sprintf("10.0.0.%d:18005", n), follower: f}
	o.Replicas = New(Options{Self: o.name, Directory: h, Follower: f, Barrier: b, Stored: f.store, Used: o.took, Log: slog.New(slog.DiscardHandler), Fit: func() bool { return !o.unfit.Load() },
		Content: func() string {
			if s := o.shows.Load(); s != nil {
				return *s
			}
			return ""
		},
		Dial: func(ctx context.Context, to string) (net.Conn, error) { return h.dial(ctx, o.name, to) }})
	d := &door{conns: make(chan net.Conn), done: make(chan struct{})}
	h.do(func() { h.doors[o.name] = d.conns })
	var ctx context.Context
	ctx, o.stop = context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = o.Run(ctx, d) }()
	t.Cleanup(func() { o.stop(); <-done })
	return o
}

func names() (out []mesh.ServiceName) {
	for i := range 100 {
		out = append(out, mesh.ServiceName{Namespace: "prod", DiscoveryName: fmt.Sprintf("s%d", i)})
	}
	return out
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// askers counts how many of the replicas ask about each service; all must have
// seen the same.
func askers(t *testing.T, all ...*one) map[string]int {
	t.Helper()
	share := map[string]int{}
	for _, s := range names() {
		n := 0
		for _, r := range all {
			if _, elsewhere := r.Elsewhere(s); !elsewhere {
				n++
				share[r.name]++
			}
		}
		if n == 0 {
			t.Fatalf("nobody asks about %s", s)
		}
	}
	return share
}

func TestReplicasShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		a, b, c := h.enter(t, 1, subscribers{}), h.enter(t, 2, subscribers{}), h.enter(t, 3, subscribers{})
		all := []*one{a, b, c}
		for i, s := range names() {
			for _, r := range all {
				r.Saw(s, uint64(i))
			}
		}
		after(time.Minute)
		share := askers(t, all...)
		if share[a.name]+share[b.name]+share[c.name] != 100 || min(share[a.name], share[b.name], share[c.name]) < 20 {
			t.Errorf("each service is asked about by one: %v", share)
		}
		if !a.Complete() || len(a.Status()) != 2 {
			t.Errorf("a hears %v", a.Status())
		}
		// News is told at once, and to all.
		s := names()[7]
		a.Saw(s, 1<<63)
		synctest.Wait()
		if b.follower.told[s] != 1<<63 || c.follower.told[s] != 1<<63 {
			t.Error("news was not told")
		}
		b.Leaving(s, "t1.web")
		synctest.Wait()
		if fmt.Sprint(a.follower.leaving, c.follower.leaving) != "[s7.prod/t1.web] [s7.prod/t1.web]" {
			t.Errorf("told of the one that leaves: %v, %v", a.follower.leaving, c.follower.leaving)
		}
		a.Stored(s, 3)
		a.Stored(s, 2)
		synctest.Wait()
		if b.follower.stored[s] != 3 || c.follower.stored[s] != 3 {
			t.Errorf("told of a certificate: %v, %v", b.follower.stored, c.follower.stored)
		}
		d := h.enter(t, 4, subscribers{}) // one that comes later hears of it too
		after(time.Minute)
		if d.follower.stored[s] != 3 {
			t.Error("one that came later was not told of a certificate")
		}
		d.stop()
		after(20 * time.Minute)

		if a.Gone(b.name) || a.Gone(c.name) || a.Gone("10.0.0.9:18005") {
			t.Error("who is heard, and who never was, is not gone")
		}

		// One dies: its services are asked about by the others at once.
		before := a.follower.again
		h.cut(c.name)
		c.stop()
		after(7 * time.Second)
		if share = askers(t, a, b); share[a.name]+share[b.name] != 100 {
			t.Errorf("after the death of one: %v", share)
		}
		if !a.Gone(c.name) || a.Gone(b.name) {
			t.Errorf("gone are not those that were heard and are not: %v", a.Status())
		}
		if a.follower.again == before || a.Complete() {
			t.Errorf("a was not told: %v", a.Status())
		}
		after(11 * time.Minute)
		if !slices.Contains(h.forgot, c.name) || !a.Complete() {
			t.Errorf("the dead one stays written down: %v, %v", h.forgot, a.Status())
		}
	})
}

// A replica that hangs is silent, and one that nobody hears does everything.
func TestNoServiceIsAskedAboutByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		a, b := h.enter(t, 1, subscribers{}), h.enter(t, 2, subscribers{})
		for _, s := range names() {
			a.Saw(s, 1)
			b.Saw(s, 1)
		}
		for range 600 {
			after(500 * time.Millisecond)
			askers(t, a, b)
		}
		h.cut(b.name)
		for range 100 {
			after(100 * time.Millisecond)
			askers(t, a, b)
		}
		if share := askers(t, a, b); share[a.name] != 100 || share[b.name] != 100 {
			t.Errorf("apart, each asks about everything: %v", share)
		}
		h.do(func() { h.deaf[b.name] = false })
		for range 100 {
			after(100 * time.Millisecond)
			askers(t, a, b)
		}
		if share := askers(t, a, b); share[a.name]+share[b.name] != 100 {
			t.Errorf("together again: %v", share)
		}
	})
}

// The registry does not answer one of them: the other asks about everything,
// within a beat, and no longer than that.
func TestAnUnfitReplicaPromisesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		a, b := h.enter(t, 1, subscribers{}), h.enter(t, 2, subscribers{})
		for _, s := range names() {
			a.Saw(s, 1)
			b.Saw(s, 1)
		}
		after(time.Minute)
		before := askers(t, a, b)
		again := b.follower.again
		a.unfit.Store(true)
		after(beatEvery + time.Second)
		if share := askers(t, a, b); share[b.name] != 100 {
			t.Errorf("b asks about %d", share[b.name])
		}
		if b.follower.again == again {
			t.Error("b was not told to think again")
		}
		a.unfit.Store(false)
		after(beatEvery + time.Second)
		if share := askers(t, a, b); share[a.name] != before[a.name] || share[b.name] != before[b.name] {
			t.Errorf("fit again: %v, before: %v", share, before)
		}
	})
}

func TestADrainWaitsForTheSidecarsOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		a := h.enter(t, 1, subscribers{})
		h.enter(t, 2, subscribers{after: 3 * time.Second})
		after(time.Minute)
		s, addr := names()[0], netip.MustParseAddrPort("10.1.0.1:15010")
		began := time.Now()
		if missing, err := a.Removed(t.Context(), s, addr); err != nil || len(missing) > 0 || time.Since(began) != 3*time.Second {
			t.Errorf("%v, %v after %s", missing, err, time.Since(began))
		}
		h.enter(t, 3, subscribers{after: time.Hour, missing: []string{"web/t9"}})
		after(time.Minute)
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		missing, err := a.Removed(ctx, s, addr)
		if fmt.Sprint(missing) != "[web/t9]" || err == nil {
			t.Errorf("missing %v, %v", missing, err)
		}
	})
}

// A proof is used if any replica that is heard has taken it; one that hangs holds
// nobody up for long.
func TestAProofThatAnotherHasTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		a, b, c := h.enter(t, 1, subscribers{}), h.enter(t, 2, subscribers{}), h.enter(t, 3, subscribers{})
		after(time.Minute)
		c.taken.Store("p", true)
		if !a.Used(t.Context(), "p") || a.Used(t.Context(), "q") || c.Used(t.Context(), "p") {
			t.Error("it is c's alone")
		}
		h.cut(c.name)
		c.stop()
		after(time.Minute)
		if a.Used(t.Context(), "p") {
			t.Error("who is not heard can't have answered")
		}
		h.do(func() { delete(h.doors, b.name) }) // still heard, and takes no more calls
		began := time.Now()
		if a.Used(t.Context(), "p") || time.Since(began) > 3*time.Second {
			t.Errorf("answered after %s", time.Since(began))
		}
	})
}

func TestOwnersChangeForWhatTheLostOneHad(t *testing.T) {
	three, two := []string{"a", "b", "c"}, []string{"a", "b"}
	for _, s := range names() {
		if was := owner(three, s); was != "c" && owner(two, s) != was {
			t.Errorf("%s went from %s to %s", s, was, owner(two, s))
		}
	}
}

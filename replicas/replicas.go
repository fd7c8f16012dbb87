// Package replicas lets the control planes of one mesh share the work: who asks
// the registry about which service, and what each has heard.
//
// It owns who the others are, whether they are heard, and what is told. All that
// is told is a hint: losing it costs time and nothing else, since a replica that
// hears nobody does everything itself. It must not know what a registry is, nor
// how a connection is secured.
//
// Start reading at [Replicas.Elsewhere], then hear.go (what the others say) and
// tell.go (what is said to them). [directory] finds them.
package replicas

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"patchbay/mesh"
)

// How often a replica gives a sign, and how long its silence may last.
const (
	beatEvery = 2 * time.Second
	silence   = 6 * time.Second
	// findEvery is how often the others are looked up; forgetAfter is how long
	// one that can't be reached stays listed.
	findEvery = 30 * time.Second
	// together is how long after its start a replica looks more often: the
	// others may be starting too.
	together    = 30 * time.Second
	forgetAfter = 10 * time.Minute
)

// Directory is where replicas find each other.
type Directory interface {
	// Join writes this replica down, and keeps it there until ctx ends; then it
	// takes it out.
	Join(ctx context.Context, self string) error
	// List is every replica that is written down, by its address.
	List(ctx context.Context) ([]string, error)
	// Forget takes out one that can't be reached.
	Forget(ctx context.Context, replica string) error
}

// Follower is what hears the others: discovery. Its methods do not block.
type Follower interface {
	Told(service mesh.ServiceName, mark uint64)
	Leaving(service mesh.ServiceName, instanceID string)
	Reconsider()
}

// Options are those of New. All but Fit, Content, Stored and Used are required.
type Options struct {
	Self      string // the address, IP:PORT, at which the others reach this replica; also its name
	Directory Directory
	Follower  Follower
	Barrier   Barrier
	// Stored hears that another replica has stored a certificate, and as which
	// generation of the service's. It does not block. nil: nobody does.
	Stored func(service mesh.ServiceName, generation uint64)
	// Used reports whether this replica has taken a proof, by its id. nil: none.
	Used func(id string) bool
	// Fit reports whether the registry answers this replica. One that is not fit
	// promises nothing, so that the others ask about its services. nil: always.
	Fit func() bool
	// Dial opens a connection to another replica that has proved to be one.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	Log  *slog.Logger
	// Content is a hash of what this replica serves ([Content]); nil: nothing is
	// told of it, and it differs from nobody's.
	Content func() string
}

// Replicas is this replica among the others. It is safe for concurrent use.
type Replicas struct {
	o Options

	mu      sync.Mutex
	listed  map[string]*peer // the others that are written down
	known   bool             // the directory has answered
	marks   map[mesh.ServiceName]uint64
	stored  map[mesh.ServiceName]uint64 // the generations that we know to be stored
	lost    map[string]bool             // of those that were ever heard: whether they no longer are
	ears    map[*ear]struct{}
	changed chan struct{} // closed when somebody is heard or no longer
}

// New does no I/O.
func New(o Options) *Replicas {
	return &Replicas{
		o: o, listed: map[string]*peer{}, marks: map[mesh.ServiceName]uint64{}, stored: map[mesh.ServiceName]uint64{}, lost: map[string]bool{},
		ears: map[*ear]struct{}{}, changed: make(chan struct{}),
	}
}

// Follow sets who hears the others and what knows of acknowledgements, where
// they were made later than this. It must be called before Run.
func (r *Replicas) Follow(f Follower, b Barrier, stored func(mesh.ServiceName, uint64), used func(id string) bool) {
	r.o.Follower, r.o.Barrier, r.o.Stored, r.o.Used = f, b, stored, used
}

// Run serves the others on l, finds them and listens to them, until ctx ends.
// No failure of theirs, or of the directory, ends it.
func (r *Replicas) Run(ctx context.Context, l net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.serve(ctx, l) })
	g.Go(func() error { return r.join(ctx) })
	g.Go(func() error { return r.find(ctx, g) })
	return g.Wait()
}

// join keeps this replica written down.
func (r *Replicas) join(ctx context.Context) error {
	for said := ""; ; {
		err := r.o.Directory.Join(ctx, r.o.Self)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			err = errors.New("it ended")
		}
		if text := err.Error(); text != said {
			r.o.Log.Warn("this replica can't be written down; the others do not find it", "replica", r.o.Self, "error", err)
			said = text
		}
		if !sleep(ctx, 5*time.Second) {
			return context.Cause(ctx)
		}
	}
}

// find looks the others up, and listens to each.
func (r *Replicas) find(ctx context.Context, g *errgroup.Group) error {
	begun := time.Now()
	for said := ""; ; {
		list, err := r.o.Directory.List(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		text := ""
		if err != nil {
			if text = err.Error(); text != said {
				r.o.Log.Warn("the other replicas can't be looked up; those that are known stay", "error", err)
			}
		} else {
			r.learn(ctx, g, list)
		}
		said = text
		wait := findEvery
		if err != nil || !r.Complete() || time.Since(begun) < together {
			wait = beatEvery
		}
		if !sleep(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

func (r *Replicas) learn(ctx context.Context, g *errgroup.Group, list []string) {
	var lost []string
	r.mu.Lock()
	before := len(r.listed)
	first := !r.known
	r.known = true
	for _, name := range list {
		if name == r.o.Self || r.listed[name] != nil {
			continue
		}
		own, stop := context.WithCancel(ctx)
		p := &peer{name: name, stop: stop, since: time.Now(), marks: map[mesh.ServiceName]uint64{}}
		r.listed[name] = p
		g.Go(func() error { r.listen(own, p); return nil })
	}
	for name, p := range r.listed {
		switch {
		case !slices.Contains(list, name) && !p.heard:
			p.stop()
			delete(r.listed, name)
		case !p.heard && time.Since(p.since) > forgetAfter:
			lost = append(lost, name)
			p.since = time.Now() // once in a while
		}
	}
	news := first || len(r.listed) != before
	r.mu.Unlock()
	for _, name := range lost {
		if err := r.o.Directory.Forget(ctx, name); err != nil {
			r.o.Log.Warn("a replica that can't be reached stays written down", "replica", name, "error", err)
		} else {
			r.o.Log.Info("a replica has not been reached for long and is taken out", "replica", name, "after", forgetAfter.String())
		}
	}
	if news {
		r.o.Follower.Reconsider()
	}
}

// view is this replica, if it is fit, and those that it hears, sorted. r.mu is
// held.
func (r *Replicas) view() []string {
	var v []string
	if r.o.Fit == nil || r.o.Fit() {
		v = append(v, r.o.Self)
	}
	for name, p := range r.listed {
		if p.heard {
			v = append(v, name)
		}
	}
	slices.Sort(v)
	return v
}

// Complete reports whether every replica that is written down is heard.
func (r *Replicas) Complete() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.listed {
		if !p.heard {
			return false
		}
	}
	return r.known
}

// Elsewhere reports whether another replica has promised to ask about a
// service, and the mark of what it saw last. Each replica promises to ask about
// those services that are its own among the replicas that it hears; it keeps
// the promise whatever the others do. So a service may be asked for twice while
// they disagree, and never by nobody.
func (r *Replicas) Elsewhere(s mesh.ServiceName) (mark uint64, yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if owner(r.view(), s) == r.o.Self {
		return 0, false
	}
	for _, p := range r.listed {
		if mark, told := p.marks[s]; told && p.heard && owner(p.view, s) == p.name {
			return mark, true
		}
	}
	return 0, false
}

// Status is each other replica that is written down, and whether it is heard.
func (r *Replicas) Status() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]bool{}
	for name, p := range r.listed {
		out[name] = p.heard
	}
	return out
}

// Gone reports whether another replica was heard and no longer is.
func (r *Replicas) Gone(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost[name]
}

// Self is the name of this replica: its address.
func (r *Replicas) Self() string { return r.o.Self }

// Peer is another replica that is written down.
type Peer struct {
	Address string
	Heard   bool
	Since   time.Time // that it is heard, or is not
	Content string    // as it says; empty: it does not
	Differs time.Time // since when it serves something else than this one; zero: it does not
}

// Peers are the other replicas, sorted by address.
func (r *Replicas) Peers() []Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Peer
	for name, p := range r.listed {
		out = append(out, Peer{name, p.heard, p.since, p.content, p.differs})
	}
	slices.SortFunc(out, func(a, b Peer) int { return strings.Compare(a.Address, b.Address) })
	return out
}

// content is a hash of what this replica serves.
func (r *Replicas) content() string {
	if r.o.Content == nil {
		return ""
	}
	return r.o.Content()
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

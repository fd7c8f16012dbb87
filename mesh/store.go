package mesh

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Snapshot is the whole mesh at one moment. It is immutable: whoever stores
// one gives it away, and whoever reads one may keep it for ever.
type Snapshot struct {
	// Generation counts the snapshots of this process, from 0 (empty). It
	// orders them here and means nothing anywhere else.
	Generation uint64
	// At is when it was stored; zero of generation 0.
	At time.Time
	// Services are sorted by Name.Compare.
	Services []*Service
	// Callers are the workloads that need a certificate to call with, sorted.
	Callers []Workload
	// Leaves are keyed by service, those of callers by
	// [Workload.CertificateName]; Bundles by issuer.
	Leaves  map[ServiceName]*Leaf
	Bundles map[string]*Bundle
	// Synced lists the namespaces whose full list of services has been seen at
	// least once, live or as last-known-good. Nothing may be answered to a
	// sidecar of a namespace that is not in it.
	Synced map[string]bool
}

// Service finds one by name; nil if there is none.
func (s *Snapshot) Service(name ServiceName) *Service {
	i, ok := slices.BinarySearchFunc(s.Services, name, func(v *Service, n ServiceName) int { return v.Name.Compare(n) })
	if !ok {
		return nil
	}
	return s.Services[i]
}

// Namespace is the sorted run of services of one namespace.
func (s *Snapshot) Namespace(ns string) []*Service {
	lo, _ := slices.BinarySearchFunc(s.Services, ns, func(v *Service, n string) int {
		if v.Name.Namespace < n {
			return -1
		}
		return 1
	})
	hi := lo
	for hi < len(s.Services) && s.Services[hi].Name.Namespace == ns {
		hi++
	}
	return s.Services[lo:hi:hi]
}

// Store holds the newest Snapshot. It is safe for concurrent use. Readers
// never block writers and the other way round. The zero value is not usable.
type Store struct {
	mu      sync.Mutex
	now     *Snapshot
	changed chan struct{} // closed when now is replaced

	overrides map[ServiceName]override
	held      map[ServiceName]*Leaf // the real leaves of services that show another one
}

// NewStore returns a store that holds the empty snapshot of generation 0.
func NewStore() *Store {
	return &Store{
		now:     &Snapshot{Leaves: map[ServiceName]*Leaf{}, Bundles: map[string]*Bundle{}, Synced: map[string]bool{}},
		changed: make(chan struct{}),
	}
}

// Snapshot is the newest one.
func (s *Store) Snapshot() *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Changed returns a channel that is closed as soon as the newest snapshot's
// generation differs from gen (at once if it does already).
func (s *Store) Changed(gen uint64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.Generation != gen {
		done := make(chan struct{})
		close(done)
		return done
	}
	return s.changed
}

// SetServices replaces all services of one namespace and marks the namespace
// as synced. services need not be sorted; the store keeps the pointer of each
// service that is Equal to the one that it holds. A call that changes nothing
// makes no new generation. It reports whether there was a change.
func (s *Store) SetServices(namespace string, services []*Service) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := s.now.Synced[namespace]
	next := make([]*Service, 0, len(services))
	for _, v := range services {
		v = s.shown(v)
		if old := s.now.Service(v.Name); old.Equal(v) {
			v = old
		} else {
			same = false
		}
		next = append(next, v)
	}
	old := s.now.Namespace(namespace)
	if same && len(old) == len(next) {
		return false
	}
	snap := s.next()
	snap.Services = slices.Concat(without(s.now.Services, namespace), next)
	slices.SortFunc(snap.Services, func(a, b *Service) int { return a.Name.Compare(b.Name) })
	snap.Synced = maps.Clone(snap.Synced)
	snap.Synced[namespace] = true
	s.publish(snap)
	return true
}

// SetLeaf stores the newest leaf of a service. The older one is gone for new
// readers. It reports whether there was a change.
func (s *Store) SetLeaf(l *Leaf) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, held := s.held[l.Service]; held {
		s.held[l.Service] = l
		return false
	}
	return s.showLeaf(l)
}

// showLeaf is SetLeaf for everybody who reads. The store is locked.
func (s *Store) showLeaf(l *Leaf) bool {
	if s.now.Leaves[l.Service].Equal(l) {
		return false
	}
	snap := s.next()
	snap.Leaves = maps.Clone(snap.Leaves)
	snap.Leaves[l.Service] = l
	s.publish(snap)
	return true
}

// SetBundle stores the newest trust bundle of an issuer. It reports whether
// there was a change.
func (s *Store) SetBundle(b *Bundle) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.Bundles[b.Issuer].Equal(b) {
		return false
	}
	snap := s.next()
	snap.Bundles = maps.Clone(snap.Bundles)
	snap.Bundles[b.Issuer] = b
	s.publish(snap)
	return true
}

func (s *Store) next() *Snapshot {
	c := *s.now
	c.Generation++
	return &c
}

func (s *Store) publish(snap *Snapshot) {
	snap.At = time.Now()
	s.now = snap
	close(s.changed)
	s.changed = make(chan struct{})
}

func without(all []*Service, namespace string) []*Service {
	return slices.DeleteFunc(slices.Clone(all), func(v *Service) bool { return v.Name.Namespace == namespace })
}

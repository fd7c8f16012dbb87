// Package lease decides when an instance that nobody speaks for any more is
// unhealthy, when it is gone, and when so many are silent at once that it is
// the messenger who is gone.
//
// It owns the running periods, which are in memory only: after a restart all
// start afresh. It must not know what a lease is for, nor write anything: it
// is asked what is due, told when that has been done, and asked again.
//
// Start reading at [Book.Due].
package lease

import (
	"sync"
	"time"
)

// Step is what is due for a lease.
type Step int

const (
	// Silent: one period has passed without a renewal.
	Silent Step = iota + 1
	// Gone: a second one has.
	Gone
)

// Due is one lease for which a step is due.
type Due struct {
	Key  string
	Step Step
	turn uint64
}

// Held says that leases have run out and nothing is removed.
type Held struct {
	Group string // empty: all groups
	Of    int    // leases in it
	Count int    // of these silent
}

// Book holds leases by key, in groups (the services). It is safe for
// concurrent use.
type Book struct {
	mu     sync.Mutex
	all    map[string]*entry
	groups map[string]*group
	silent int // in all groups
	held   bool
	queue  queue
}

type entry struct {
	key    string
	group  *group
	period time.Duration
	due    time.Time
	silent bool   // one period has passed
	going  bool   // Gone has been handed out
	turn   uint64 // +1 for each renewal and each step
	at     int    // in the queue
}

type group struct {
	name   string
	all    map[string]*entry
	silent int
	held   bool
}

// NewBook is empty.
func NewBook() *Book { return &Book{all: map[string]*entry{}, groups: map[string]*group{}} }

// Grant starts a lease's first period, whatever it was before. With silent it
// is one that had run out once already, as after a restart.
func (b *Book) Grant(key, name string, period time.Duration, silent bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.groups[name]
	if g == nil {
		g = &group{name: name, all: map[string]*entry{}}
		b.groups[name] = g
	}
	e := b.all[key]
	fresh := e == nil
	if fresh {
		e = &entry{key: key, group: g, at: -1}
		b.all[key], g.all[key] = e, e
	}
	e.period = period
	b.renew(e, fresh, now)
	if silent {
		b.setSilent(e, true)
	}
}

// Touch renews a lease, if there is one, even if it is about to be removed:
// for who registers anew.
func (b *Book) Touch(key string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.all[key]; e != nil {
		b.renew(e, false, now)
	}
}

// Renew starts a lease's period again. It reports whether there is such a
// lease that isn't being removed, and whether it was silent.
func (b *Book) Renew(key string, now time.Time) (found, silent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.all[key]
	if e == nil || e.going {
		return false, false
	}
	silent = e.silent
	b.renew(e, false, now)
	return true, silent
}

// Drop ends a lease, if there is one.
func (b *Book) Drop(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.all[key]
	if e == nil {
		return
	}
	b.setSilent(e, false)
	b.queue.remove(e)
	delete(b.all, key)
	if delete(e.group.all, key); len(e.group.all) == 0 {
		delete(b.groups, e.group.name)
	}
}

// renew starts a period. If this is a renewal coming back, or the first of a
// new lease, those that are held and still silent get another full period.
func (b *Book) renew(e *entry, fresh bool, now time.Time) {
	back := fresh || e.silent
	e.turn++
	e.going = false
	b.setSilent(e, false)
	b.queue.set(e, now.Add(e.period))
	switch {
	case b.held && back:
		b.held = false
		for _, g := range b.groups {
			g.again(&b.queue, now)
		}
	case e.group.held && back:
		e.group.again(&b.queue, now)
	}
}

func (g *group) again(q *queue, now time.Time) {
	g.held = false
	for _, e := range g.all {
		if e.silent && !e.going {
			q.set(e, now.Add(e.period))
		}
	}
}

func (b *Book) setSilent(e *entry, silent bool) {
	if e.silent == silent {
		return
	}
	n := 1
	if !silent {
		n = -1
	}
	e.silent = silent
	e.group.silent += n
	b.silent += n
}

// Due hands out the steps whose time has come, those of Silent first, and what
// is held instead of being removed: once when this begins. The caller carries
// the steps out, and calls Drop for those that are Gone; or Undo.
func (b *Book) Due(now time.Time) (due []Due, held []Held) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var second []*entry
	for e := b.queue.first(); e != nil && !e.due.After(now); e = b.queue.first() {
		b.queue.remove(e)
		if e.silent {
			second = append(second, e)
			continue
		}
		e.turn++
		b.setSilent(e, true)
		b.queue.set(e, now.Add(e.period)) // a second whole period, however late this step came
		due = append(due, Due{e.key, Silent, e.turn})
	}
	for _, e := range second {
		if h, keep := b.mass(e.group); keep {
			held = append(held, h...)
			b.queue.set(e, now.Add(e.period))
			continue
		}
		e.turn++
		e.going = true
		due = append(due, Due{e.key, Gone, e.turn})
	}
	return due, held
}

// mass is the rule: silent all over the registry (of at least two), or more
// than three and over half of a group.
func (b *Book) mass(g *group) (begins []Held, keep bool) {
	if len(b.all) >= 2 && b.silent == len(b.all) {
		if !b.held {
			b.held = true
			begins = append(begins, Held{Of: len(b.all), Count: b.silent})
		}
		return begins, true
	}
	b.held = false
	if g.silent > 3 && 2*g.silent > len(g.all) {
		if !g.held {
			g.held = true
			begins = append(begins, Held{Group: g.name, Of: len(g.all), Count: g.silent})
		}
		return begins, true
	}
	g.held = false
	return nil, false
}

// Valid reports whether a step is still to be done: nobody has renewed the
// lease since it was handed out.
func (b *Book) Valid(d Due) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.all[d.Key]
	return e != nil && e.turn == d.turn
}

// Undo says that a step could not be done: it is due again after pause.
func (b *Book) Undo(d Due, now time.Time, pause time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.all[d.Key]
	if e == nil || e.turn != d.turn {
		return
	}
	e.turn++
	if d.Step == Silent {
		b.setSilent(e, false)
	}
	e.going = false
	b.queue.set(e, now.Add(pause))
}

// Next is when the next step is due; zero if there is none.
func (b *Book) Next() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.queue.first(); e != nil {
		return e.due
	}
	return time.Time{}
}

// Len is how many leases there are, and how many of them are silent.
func (b *Book) Len() (all, silent int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.all), b.silent
}

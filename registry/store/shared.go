package store

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrConflict: somebody else has written since the last Pull. Pull, and
	// decide again.
	ErrConflict = errors.New("another replica of the registry has written meanwhile")
	// ErrUnavailable: the store can't be asked now. What an Apply was to change
	// may have changed; if so, Pull will tell.
	ErrUnavailable = errors.New("the registry's store can't be reached")
)

// Shared is a Store that other processes, the registry's other replicas, write
// as well. Whoever uses it holds a copy of all records and keeps it by Pull.
//
// Load, Apply, Pull and Sync are called by one goroutine at a time. Load may
// fail with ErrUnavailable and be called again.
type Shared interface {
	Store
	Beats
	// Run hears of what others write, until ctx ends; it returns ctx's cause.
	// It may begin before or after Load.
	Run(ctx context.Context) error
	// Changed has a value when Pull may have something.
	Changed() <-chan struct{}
	// Pull returns what others have written since Load or the last Pull, in
	// its order. With whole it is everything that there is instead: what is
	// not in it is gone. It never waits.
	Pull() (changes []Change, whole bool)
	// Sync waits until Pull returns everything that was written, by whomever,
	// before Sync was called. Errors match ErrUnavailable.
	Sync() error
	// Most is how many changes one Apply takes. Apply's errors match
	// ErrConflict, after which Pull has what was missed, or ErrUnavailable.
	Most() int
	// Silence is for how long the store has not been heard of.
	Silence() time.Duration
}

// Beats are signs of life that all replicas see, whichever heard them. They are
// safe for concurrent use.
type Beats interface {
	// Beat says that key was heard of, which counts for period, of at least a
	// second. Errors match ErrUnavailable.
	Beat(key string, period time.Duration) error
	// Heard is how much of its period is left of a key; zero: it was not heard
	// of within it. Errors match ErrUnavailable.
	Heard(key string, period time.Duration) (left time.Duration, err error)
}

// Package secret keeps what must survive a restart and not be seen: the leaves
// and trust bundles of package pki. A [Store] holds numbered generations by
// name; [File] and [Memory] are two of them.
//
// It owns how secrets rest. It must not know what they say.
//
// Start reading at [Store].
package secret

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// What a [Store] says besides failures of its medium.
var (
	// ErrNone: there is none of that name (any more).
	ErrNone = errors.New("no such secret")
	// ErrConflict: somebody stored a newer generation. Load it.
	ErrConflict = errors.New("a newer generation is stored already")
	// ErrCorrupt: what was stored can't be read. It has been put aside, where
	// the error says, and the name is free.
	ErrCorrupt = errors.New("the stored secret is corrupt")
	// ErrTooSoon: the store takes no next generation of that name yet; the
	// error says when.
	ErrTooSoon = errors.New("the secret changes too often")
	// ErrOtherKey: what is stored was sealed with another key. It stays as it
	// is, for the day when the right key is back.
	ErrOtherKey = errors.New("the stored secret was sealed with another key")
)

// Entry is one version of something to keep secret. It prints and logs
// without its value.
type Entry struct {
	Name       string // of [A-Za-z0-9/_+=.@:-]
	Generation uint64 // counts the versions of Name, from 1
	Value      []byte
	// For says what a prepared entry is for, such as a digest of the names of a
	// certificate to be; entries that are for another purpose do not meet.
	For string
	// KMSKey is the key under which the secret should rest, where the store
	// has such keys; empty: the store's own choice.
	KMSKey string
}

// String names the secret without its value.
func (s Entry) String() string { return fmt.Sprintf("secret(%s generation %d)", s.Name, s.Generation) }

// GoString is String: %#v must not print the value either.
func (s Entry) GoString() string { return s.String() }

// LogValue is the secret without its value.
func (s Entry) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Store keeps secrets for this control plane, or for all its replicas.
// Implementations are safe for concurrent use, and do not retry.
//
// Whoever makes a new generation first prepares it (a key and a request), then
// has a certificate made of that, then saves it. So those who race, and those
// who finish what a crash left behind, all ask for one and the same
// certificate.
type Store interface {
	// Load returns the newest generation; ErrNone if there is none.
	Load(ctx context.Context, name string) (Entry, error)
	// Save stores a secret whose Generation is one more than the newest that
	// is stored (1 if there is none), else ErrConflict: of several that save
	// the same generation exactly one succeeds. When it has returned nil, a
	// crash loses nothing; when it fails otherwise, the older generation or
	// the new one is stored whole.
	Save(ctx context.Context, s Entry) error
	// Prepare stores what generation s.Generation of s.Name will be made from,
	// for s.For, and returns it with mine true; or what somebody prepared
	// before for the same generation and purpose. Load does not see it. A
	// generation that is not one more than the newest is an ErrConflict.
	// What was prepared is kept until its generation is saved, at least for
	// the last purpose.
	Prepare(ctx context.Context, s Entry) (prepared Entry, mine bool, err error)
}

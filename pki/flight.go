package pki

import (
	"context"
	"errors"
	"fmt"
	"time"

	"patchbay/mesh"
	"patchbay/pki/secret"
)

// flight is one attempt to load or to renew a service's leaf. It knows only
// copies, so that it may run beside the loop.
type flight struct {
	name       mesh.ServiceName
	want       want
	load       bool // only ask the secret store
	tries      int
	forced     bool
	leaf       *mesh.Leaf
	generation uint64
}

// landing is what became of it.
type landing struct {
	name       mesh.ServiceName
	loaded     bool
	leaf       *mesh.Leaf // to be published; nil: keep what you have
	covers     want
	generation uint64
	unsaved    error // the leaf could not be stored
	err        error
}

// maxLoads is how often a secret store that fails is asked before a service
// gets a leaf without it.
const maxLoads = 3

func (s *service) flight() flight {
	return flight{s.name, s.want, !s.loaded, s.tries, s.forced, s.leaf, s.generation}
}

func (f flight) key() string { return "leaf/" + f.name.Namespace + "/" + f.name.DiscoveryName }

func (r *Rotator) fly(ctx context.Context, f flight) landing {
	ctx, stop := context.WithTimeout(ctx, r.o.IssueTimeout+r.o.TrustLead)
	defer stop()
	if f.load {
		return r.loadLeaf(ctx, f)
	}
	return r.renew(ctx, f)
}

// loadLeaf brings the leaf that rests in the secret store, if any. Even one
// that has expired: a listener without a certificate would not start at all.
func (r *Rotator) loadLeaf(ctx context.Context, f flight) landing {
	stored, err := r.stored(ctx, f)
	switch {
	case err == nil:
		r.log.Info("certificate loaded", "service", f.name.String(), "serial", stored.leaf.Serial, "not_after", stored.leaf.NotAfter)
		return stored
	case errors.Is(err, secret.ErrNone):
	case errors.Is(err, secret.ErrCorrupt):
		r.log.Error("stored certificate can't be read", "service", f.name.String(), "error", err)
	case f.tries+1 < maxLoads:
		return landing{name: f.name, err: err}
	default:
		r.log.Error("stored certificate is out of reach", "service", f.name.String(), "error", err)
	}
	return landing{name: f.name, loaded: true}
}

// stored loads a service's newest leaf from the secret store.
func (r *Rotator) stored(ctx context.Context, f flight) (landing, error) {
	s, err := r.secrets.Load(ctx, f.key())
	if err != nil {
		return landing{}, err
	}
	leaf, covers, err := decodeLeaf(s, f.name)
	if err != nil {
		return landing{generation: s.Generation}, fmt.Errorf("%w: %w", secret.ErrCorrupt, err)
	}
	return landing{name: f.name, loaded: true, leaf: leaf, covers: covers, generation: s.Generation}, nil
}

// renew gets a new leaf, from another replica that was faster or from the
// issuer, makes sure that its root is trusted, and stores it.
func (r *Rotator) renew(ctx context.Context, f flight) landing {
	failed := func(err error) landing { return landing{name: f.name, loaded: true, err: err} }
	before, loadErr := r.stored(ctx, f)
	if loadErr == nil && before.generation > f.generation && before.covers.equal(f.want) &&
		!f.forced && time.Now().Before(partOfLife(before.leaf, r.trusts[f.want.issuer].renew[0])) {
		if err := r.trusts[f.want.issuer].ready(ctx, before.leaf); err != nil {
			return failed(err)
		}
		return before
	}
	t := r.trusts[f.want.issuer]
	issued, err := t.issuer.Issue(ctx, Request{Service: f.name, Names: f.want.names, URI: f.want.uri})
	if err != nil {
		return failed(err)
	}
	leaf := *issued
	leaf.Issuer = f.want.issuer
	if err := t.ready(ctx, &leaf); err != nil {
		return failed(err)
	}
	l := landing{name: f.name, loaded: true, leaf: &leaf, covers: f.want, generation: before.generation + 1}
	l = r.save(ctx, f, l)
	r.log.Info("certificate issued", "service", f.name.String(), "issuer", leaf.Issuer, "serial", l.leaf.Serial,
		"not_after", l.leaf.NotAfter, "names", f.want.names, "generation", l.generation)
	return l
}

// save stores a new leaf. If another replica was faster its leaf is taken
// instead; if the store fails the leaf is used all the same.
func (r *Rotator) save(ctx context.Context, f flight, l landing) landing {
	value, err := encodeLeaf(l.leaf, l.covers)
	if err == nil {
		err = r.secrets.Save(ctx, secret.Entry{Name: f.key(), Generation: l.generation, Value: value})
	}
	if errors.Is(err, secret.ErrConflict) {
		winner, loadErr := r.stored(ctx, f)
		switch {
		case loadErr == nil && winner.covers.equal(f.want):
			return winner
		case loadErr == nil || winner.generation > 0:
			l.generation = winner.generation + 1
		default:
			l.generation = 1
		}
		err = r.secrets.Save(ctx, secret.Entry{Name: f.key(), Generation: l.generation, Value: value})
	}
	if err != nil {
		l.unsaved = err
		r.log.Error("certificate is in use but not stored", "service", f.name.String(), "error", err)
	}
	return l
}

package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"patchbay/audit"
	"patchbay/mesh"
	"patchbay/pki/issue"
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
	prepared   *issue.Prepared // what this replica prepared and has not saved yet
	issued     *mesh.Leaf      // made of prepared, and not trusted everywhere yet
	awaited    uint64          // the generation that another replica is making; 0: none
	impatient  bool            // it has been awaited for long enough
}

// landing is what became of it.
type landing struct {
	name       mesh.ServiceName
	load       bool // of a flight that only asked the secret store
	asked      bool // the issuer was asked
	loaded     bool
	leaf       *mesh.Leaf // to be published; nil: keep what you have
	covers     want
	generation uint64
	anchor     *x509.Certificate // the root that callers verify it with; nil: not known
	prepared   *issue.Prepared   // see flight
	issued     *mesh.Leaf        // see flight
	await      uint64            // wait for another replica's generation; 0: don't
	awaitBy    string            // that replica; empty: not known, or as before
	unsaved    error             // the leaf could not be stored
	err        error
}

// maxLoads is how often a secret store that fails is asked before a service
// gets a leaf without it.
const maxLoads = 3

// maxTries is the same for preparing a leaf: what is issued without the store
// may be issued again by another replica.
const maxTries = 5

func (s *service) flight(now time.Time) flight {
	return flight{
		name: s.name, want: s.want, load: s.looking(now), tries: s.tries, forced: s.forced, leaf: s.leaf, generation: s.generation,
		prepared: s.prepared, issued: s.issued, awaited: s.awaited, impatient: s.impatient(now),
	}
}

func (f flight) key() string { return "leaf/" + f.name.Namespace + "/" + f.name.DiscoveryName }

func (r *Rotator) fly(ctx context.Context, f flight) landing {
	ctx, stop := context.WithTimeout(ctx, r.o.IssueTimeout+r.o.TrustLead)
	defer stop()
	if !f.load {
		return r.renew(ctx, f)
	}
	l := r.loadLeaf(ctx, f)
	l.load = true
	return l
}

// loadLeaf brings the leaf that rests in the secret store, if it is newer than
// the one in use. Even one that has expired: a listener without a certificate
// would not start at all.
func (r *Rotator) loadLeaf(ctx context.Context, f flight) landing {
	stored, err := r.stored(ctx, f)
	switch {
	case f.awaited > 0 && (err != nil || stored.generation < f.awaited):
		return landing{name: f.name, loaded: true, await: f.awaited}
	case err == nil && stored.generation > f.generation && f.prefers(ctx, stored, r.trusts[f.want.issuer]):
		stored.anchor = r.trusts[f.want.issuer].anchorOf(stored.leaf)
		r.log.Info("certificate loaded", "service", f.name.String(), "serial", stored.leaf.Serial, "not_after", stored.leaf.NotAfter)
		return stored
	case f.leaf != nil, err == nil, errors.Is(err, secret.ErrNone):
	case errors.Is(err, secret.ErrCorrupt):
		r.log.Error("stored certificate can't be read", "service", f.name.String(), "error", err)
	case f.tries+1 < maxLoads:
		return landing{name: f.name, err: err}
	default:
		r.log.Error("stored certificate is out of reach", "service", f.name.String(), "error", err)
	}
	return landing{name: f.name, loaded: true}
}

// prefers reports whether a stored leaf should take the place of the one in
// use, if there is one.
func (f flight) prefers(ctx context.Context, stored landing, t *trust) bool {
	return f.leaf == nil || t != nil && stored.covers.equal(f.want) && t.ready(ctx, stored.leaf, !f.lasting()) == nil
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
	l := landing{name: f.name, loaded: true, covers: f.want, issued: f.issued}
	failed := func(err error) landing {
		return landing{name: f.name, loaded: true, asked: l.asked, prepared: f.prepared, issued: l.issued, err: err}
	}
	await := func(gen uint64) landing {
		return landing{name: f.name, loaded: true, prepared: f.prepared, issued: f.issued, await: gen}
	}
	t := r.trusts[f.want.issuer]
	before, err := r.stored(ctx, f)
	switch {
	case err == nil && f.takes(before, t):
		if err := t.ready(ctx, before.leaf, !f.lasting()); err != nil {
			return failed(err)
		}
		before.anchor = t.anchorOf(before.leaf)
		return before
	case err == nil && before.generation < max(f.generation, f.awaited) && !f.impatient:
		return await(max(f.generation, f.awaited)) // the store's reads lag behind its writes
	}
	l.generation = before.generation + 1
	p, mine, by, err := r.prepare(ctx, f, l.generation)
	switch {
	case errors.Is(err, secret.ErrConflict):
		return await(l.generation)
	case err != nil && (f.lasting() || f.tries+1 < maxTries || errors.Is(err, secret.ErrTooSoon)):
		return failed(err)
	case err != nil: // a leaf that is not stored is better than none
		l.unsaved = err
	case !mine && !f.impatient && !r.o.Gone(by):
		wait := await(l.generation)
		wait.awaitBy = by
		return wait
	}
	again := f.issued != nil && f.prepared != nil && bytes.Equal(p.CSR.Raw, f.prepared.CSR.Raw)
	if f.prepared = p; !again {
		if err := r.issue(ctx, &f, &l, t); err != nil {
			return failed(err)
		}
	}
	l.issued = f.issued
	if err := t.ready(ctx, f.issued, !f.lasting()); err != nil {
		return failed(err)
	}
	l.leaf, l.issued, l.anchor = f.issued, nil, t.anchorOf(f.issued)
	return r.save(ctx, f, l)
}

// issue has the issuer make f.issued of f.prepared.
func (r *Rotator) issue(ctx context.Context, f *flight, l *landing, t *trust) error {
	l.asked = true
	issued, err := t.issuer.Issue(ctx, issue.Request{Service: f.name, Names: f.want.names, URI: f.want.uri, Prepared: f.prepared})
	if err != nil {
		return err
	}
	leaf := *issued
	leaf.Issuer = f.want.issuer
	f.issued = &leaf
	r.o.Audit(f.event(&leaf))
	return nil
}

// takes reports whether the leaf of another replica is as good as a new one.
func (f flight) takes(stored landing, t *trust) bool {
	newer := stored.generation > f.generation && stored.covers.equal(f.want)
	asked := !f.forced || f.awaited > 0 && stored.generation >= f.awaited
	return newer && asked && time.Now().Before(partOfLife(stored.leaf, t.renew[0]))
}

// lasting reports whether the leaf in use has time left.
func (f flight) lasting() bool {
	return f.leaf != nil && f.leaf.Issuer == f.want.issuer && time.Now().Before(partOfLife(f.leaf, alarmAbove))
}

// prepare stores the key that the next generation will be made of, or finds
// the one that another replica has stored. mine is also what this replica
// stored before, in an attempt that failed; by is the other replica.
func (r *Rotator) prepare(ctx context.Context, f flight, generation uint64) (p *issue.Prepared, mine bool, by string, err error) {
	req := issue.Request{Service: f.name, Names: f.want.names, URI: f.want.uri}
	if p = f.prepared; p == nil || !slices.Equal(p.CSR.DNSNames, req.Names) {
		p, err = req.Prepare()
	}
	if err != nil {
		return nil, false, "", err
	}
	value, err := p.Encode(r.o.Self)
	if err != nil {
		return nil, false, "", err
	}
	e, mine, err := r.secrets.Prepare(ctx, secret.Entry{Name: f.key(), Generation: generation, Value: value, For: f.want.digest(), KMSKey: f.want.kmsKey})
	if err != nil || mine {
		return p, mine, "", err
	}
	theirs, by, err := issue.DecodePrepared(e.Value, req)
	if err != nil {
		r.log.Error("what another replica prepared can't be used; going on without", "service", f.name.String(), "error", fmt.Errorf("%s: %w", e, err))
		return p, true, "", nil
	}
	mine = f.prepared != nil && bytes.Equal(theirs.CSR.Raw, f.prepared.CSR.Raw) || by != "" && by == r.o.Self
	return theirs, mine, by, nil
}

// save stores a new leaf. If another replica was faster, its leaf is awaited;
// if the store fails, the leaf is used all the same.
func (r *Rotator) save(ctx context.Context, f flight, l landing) landing {
	value, err := encodeLeaf(l.leaf, l.covers)
	if err == nil && l.unsaved == nil {
		err = r.secrets.Save(ctx, secret.Entry{Name: f.key(), Generation: l.generation, Value: value, KMSKey: f.want.kmsKey})
	}
	switch {
	case errors.Is(err, secret.ErrConflict):
		return landing{name: f.name, loaded: true, asked: true, prepared: f.prepared, await: l.generation}
	case err != nil:
		l.unsaved = err
	}
	if l.unsaved != nil {
		r.log.Error("certificate is in use but not stored", "service", f.name.String(), "error", l.unsaved)
	}
	r.log.Info("certificate issued", "service", f.name.String(), "issuer", l.leaf.Issuer, "serial", l.leaf.Serial,
		"not_after", l.leaf.NotAfter, "dns_names", f.want.names, "generation", l.generation)
	return l
}

// event is an issued certificate for the audit log.
func (f flight) event(l *mesh.Leaf) audit.Event {
	kind := audit.CertificateIssued
	if f.leaf != nil {
		kind = audit.CertificateRenewed
	}
	chain, err := issue.ParseCertificates(l.ChainPEM)
	if err != nil {
		return audit.Event{Kind: kind, Subject: f.name.String(), Reason: err.Error()} // an issuer has verified it
	}
	e := audit.Of(kind, chain[0])
	e.Actor, e.Subject, e.Issuer = "control plane", f.name.String(), l.Issuer
	return e
}

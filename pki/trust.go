package pki

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"patchbay/mesh"
	"patchbay/pki/secret"
)

// keepMissing is how long a root stays trusted, at least, after its issuer no
// longer lists it. It stays longer when a leaf from before expires later.
const keepMissing = 24 * time.Hour

// trust keeps the bundle of one issuer.
type trust struct {
	name   string
	issuer Issuer
	r      *Rotator
	issues lane
	renew  [2]float64    // between these parts of its life a leaf is renewed
	turn   chan struct{} // its token guards generation, and that one refresh runs at a time

	generation uint64
	signing    time.Time // since of the newest root that signs; guarded by Rotator.mu

	mu    sync.Mutex // guards what follows
	roots []root
	seen  time.Time // the issuer's last answer
	err   error
	errAt time.Time
}

// root is one that the mesh trusts for an issuer.
type root struct {
	cert    *x509.Certificate
	since   time.Time // first published; zero: with the first bundle
	missing time.Time // when the issuer ceased to list it; zero: it does
	until   time.Time // when a missing one is dropped
}

func newTrust(name string, issuer Issuer, r *Rotator) *trust {
	t := &trust{name: name, issuer: issuer, r: r, turn: make(chan struct{}, 1), renew: [2]float64{renewFrom, renewTo}}
	var limits Limits
	if l, ok := issuer.(Limited); ok {
		limits = l.Limits()
	}
	if limits.RenewTo > 0 {
		t.renew = [2]float64{limits.RenewFrom, limits.RenewTo}
	}
	t.issues = newLane(cmp.Or(limits.Rate, r.o.Rate), cmp.Or(limits.Parallel, r.o.Parallel))
	t.turn <- struct{}{}
	return t
}

func (t *trust) key() string { return "bundle/" + t.name }

// load publishes the last-known bundle, if one rests in the secret store.
func (t *trust) load(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, t.r.o.IssueTimeout)
	defer stop()
	roots, err := t.stored(ctx)
	if errors.Is(err, secret.ErrNone) {
		return
	}
	if err != nil {
		t.r.log.Error("stored trust can't be read", "issuer", t.name, "error", err)
		return
	}
	t.publish(roots)
}

func (t *trust) stored(ctx context.Context) ([]root, error) {
	s, err := t.r.secrets.Load(ctx, t.key())
	if err != nil {
		return nil, err
	}
	t.generation = s.Generation
	var v storedBundle
	if err := json.Unmarshal(s.Value, &v); err != nil || v.Version != 1 || v.Issuer != t.name {
		return nil, fmt.Errorf("%s: version %d of issuer %q: %w", s, v.Version, v.Issuer, secret.ErrCorrupt)
	}
	var roots []root
	for _, sr := range v.Roots {
		certs, err := ParseCertificates([]byte(sr.PEM))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
		roots = append(roots, root{certs[0], sr.Since, sr.Missing, sr.Until})
	}
	return roots, nil
}

// run refreshes the bundle until ctx ends.
func (t *trust) run(ctx context.Context) {
	longest := min(t.r.o.BundleRefresh, 30*time.Second)
	retry := newBackoff(longest)
	for failing := false; ; {
		err := t.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		delay := t.r.o.BundleRefresh
		switch {
		case err != nil:
			if !failing {
				t.r.log.Warn("issuer is out of reach; trying again", "issuer", t.name, "roots_kept", len(t.current()), "error", err)
			}
			delay = retry.NextBackOff()
		case failing:
			t.r.log.Info("issuer is back", "issuer", t.name)
			retry = newBackoff(longest)
		}
		failing = err != nil
		if !sleep(ctx, delay) {
			return
		}
	}
}

// sleep waits for d; false: ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// refresh asks the issuer for its roots and publishes the outcome. An answer
// that makes no sense is an error, and changes nothing.
func (t *trust) refresh(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, t.r.o.IssueTimeout)
	defer stop()
	select {
	case <-t.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { t.turn <- struct{}{} }()
	text, err := t.issuer.Roots(ctx)
	now := time.Now()
	var listed []*x509.Certificate
	if err == nil {
		listed, err = usableRoots(text, now)
	}
	t.mu.Lock()
	t.err, t.errAt = err, now
	if err == nil {
		t.seen = now
	}
	t.mu.Unlock()
	if err != nil {
		return err
	}
	old := t.current()
	next := mergeRoots(old, listed, t.r.leavesOf(t.name), now)
	if slices.EqualFunc(old, next, root.equal) {
		return nil
	}
	t.publish(next)
	t.r.log.Info("trust changed", "issuer", t.name, "roots", len(next), "listed", len(listed))
	if err := t.save(ctx, next); err != nil {
		t.r.log.Error("trust is in use but not stored", "issuer", t.name, "error", err)
	}
	return nil
}

func (a root) equal(b root) bool {
	return a.cert.Equal(b.cert) && a.since.Equal(b.since) && a.missing.Equal(b.missing) && a.until.Equal(b.until)
}

// usableRoots reads an issuer's answer: CA certificates that have not expired.
func usableRoots(text []byte, now time.Time) ([]*x509.Certificate, error) {
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, err
	}
	certs = slices.DeleteFunc(certs, func(c *x509.Certificate) bool { return !c.IsCA || now.After(c.NotAfter) })
	if len(certs) == 0 {
		return nil, errors.New("none of its roots is a CA certificate that is still valid")
	}
	return certs, nil
}

// mergeRoots is what to trust after an issuer listed its roots: those, and the
// ones before them until every leaf has expired that may stem from them, also
// those that other replicas serve. leaves are the issuer's, as far as known.
func mergeRoots(old []root, listed []*x509.Certificate, leaves []*mesh.Leaf, now time.Time) []root {
	var out []root
	find := func(in []root, c *x509.Certificate) int {
		return slices.IndexFunc(in, func(v root) bool { return v.cert.Equal(c) })
	}
	for _, c := range listed {
		if find(out, c) >= 0 {
			continue
		}
		v := root{cert: c}
		if i := find(old, c); i >= 0 {
			v.since = old[i].since
		} else if len(old) > 0 {
			v.since = now
		}
		out = append(out, v)
	}
	for _, v := range old {
		if find(out, v.cert) >= 0 {
			continue
		}
		if v.missing.IsZero() {
			v.missing, v.until = now, now.Add(keepMissing)
		}
		for _, l := range leaves {
			if !l.IssuedAt.After(v.missing) && l.NotAfter.After(v.until) {
				v.until = l.NotAfter
			}
		}
		if now.Before(v.until) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b root) int { return bytes.Compare(a.cert.Raw, b.cert.Raw) })
	return out
}

func (t *trust) current() []root {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.roots
}

// publish makes roots the issuer's bundle; they are sorted by DER.
func (t *trust) publish(roots []root) {
	t.r.store.SetBundle(&mesh.Bundle{Issuer: t.name, RootsPEM: EncodeCertificates(certsOf(roots))})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.roots = roots
}

func certsOf(roots []root) []*x509.Certificate {
	out := make([]*x509.Certificate, len(roots))
	for i, v := range roots {
		out[i] = v.cert
	}
	return out
}

// save stores the bundle; another replica's is overwritten, for both asked
// the same issuer.
func (t *trust) save(ctx context.Context, roots []root) error {
	v := storedBundle{Version: 1, Issuer: t.name}
	for _, x := range roots {
		v.Roots = append(v.Roots, storedRoot{string(EncodeCertificates([]*x509.Certificate{x.cert})), x.since, x.missing, x.until})
	}
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	err = t.r.secrets.Save(ctx, secret.Entry{Name: t.key(), Generation: t.generation + 1, Value: value})
	if errors.Is(err, secret.ErrConflict) {
		t.generation = 0
		if _, loadErr := t.stored(ctx); loadErr != nil && !errors.Is(loadErr, secret.ErrNone) && t.generation == 0 && !errors.Is(loadErr, secret.ErrCorrupt) {
			return loadErr
		}
		err = t.r.secrets.Save(ctx, secret.Entry{Name: t.key(), Generation: t.generation + 1, Value: value})
	}
	if err == nil {
		t.generation++
	}
	return err
}

// ready returns nil when the root of a new leaf is trusted everywhere: it is
// in the bundle, and if it came as a second one it has been there for the lead
// time and every connected node has accepted it. With urgent the nodes are not
// waited for: the service has nothing else to live on.
func (t *trust) ready(ctx context.Context, leaf *mesh.Leaf, urgent bool) error {
	chain, err := ParseCertificates(leaf.ChainPEM)
	if err != nil {
		return fmt.Errorf("chain of the new leaf: %w", err)
	}
	anchor, err := t.anchor(chain)
	if err != nil {
		if err := t.refresh(ctx); err != nil {
			return fmt.Errorf("trust in the new leaf: %w", err)
		}
		if anchor, err = t.anchor(chain); err != nil {
			return fmt.Errorf("trust in the new leaf: %w", err)
		}
	}
	if anchor.since.IsZero() {
		return nil
	}
	if wait := time.Until(anchor.since.Add(t.r.o.TrustLead)); wait > 0 && !sleep(ctx, wait) {
		return fmt.Errorf("trust in the new leaf: %w", ctx.Err())
	}
	if urgent {
		return nil
	}
	for limit := time.Now().Add(t.r.o.TrustLead); ; {
		missing := t.r.o.Unacked(t.name)
		if len(missing) == 0 {
			return nil
		}
		if !time.Now().Before(limit) || !sleep(ctx, ackPace) {
			return fmt.Errorf("%w: %d nodes, %s", errUnacked, len(missing), strings.Join(missing[:min(5, len(missing))], ", "))
		}
	}
}

// errUnacked: the leaf would be refused by some callers.
var errUnacked = errors.New("the new root is not accepted by every node yet, so the old certificate stays")

// ackPace is how often the nodes' answers are looked at.
const ackPace = 100 * time.Millisecond

// anchor is the root to which a chain leads; of several the one that has been
// trusted for longest.
func (t *trust) anchor(chain []*x509.Certificate) (root, error) {
	roots := t.current()
	paths, err := trustChain(chain, certsOf(roots), time.Now())
	if err != nil {
		return root{}, err
	}
	var found []root
	for _, v := range roots {
		if slices.ContainsFunc(paths, v.cert.Equal) {
			found = append(found, v)
		}
	}
	return slices.MinFunc(found, func(a, b root) int { return a.since.Compare(b.since) }), nil
}

// anchorOf is the certificate of a leaf's anchor; nil if it has none, or if
// its issuer is unknown.
func (t *trust) anchorOf(leaf *mesh.Leaf) *x509.Certificate {
	if t == nil {
		return nil
	}
	chain, err := ParseCertificates(leaf.ChainPEM)
	if err != nil {
		return nil
	}
	a, err := t.anchor(chain)
	if err != nil {
		return nil
	}
	return a.cert
}

// leavesOf lists the leaves in use that came from an issuer.
func (r *Rotator) leavesOf(issuer string) []*mesh.Leaf {
	var out []*mesh.Leaf
	for _, l := range r.store.Snapshot().Leaves {
		if l.Issuer == issuer {
			out = append(out, l)
		}
	}
	return out
}

package pki

import (
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

	"patchbay/internal/count"
	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/lane"
	"patchbay/pki/roots"
	"patchbay/pki/secret"
)

// trust keeps the bundle of one issuer.
type trust struct {
	name   string
	issuer issue.Issuer
	r      *Rotator
	issues lane.Lane
	renew  [2]float64    // between these parts of its life a leaf is renewed
	turn   chan struct{} // its token guards generation, and that one refresh runs at a time

	generation uint64
	signing    time.Time // since of the newest root that signs; guarded by Rotator.mu

	mu    sync.Mutex // guards what follows
	roots []roots.Root
	seen  time.Time // the issuer's last answer
	err   error
	errAt time.Time
}

func newTrust(name string, issuer issue.Issuer, r *Rotator) *trust {
	t := &trust{name: name, issuer: issuer, r: r, turn: make(chan struct{}, 1), renew: [2]float64{renewFrom, renewTo}}
	var limits issue.Limits
	if l, ok := issuer.(issue.Limited); ok {
		limits = l.Limits()
	}
	if limits.RenewTo > 0 {
		t.renew = [2]float64{limits.RenewFrom, limits.RenewTo}
	}
	t.issues = lane.New(cmp.Or(limits.Rate, r.o.Rate), cmp.Or(limits.Parallel, r.o.Parallel))
	t.turn <- struct{}{}
	return t
}

func (t *trust) key() string { return "bundle/" + t.name }

// load publishes the last-known bundle, if one rests in the secret store.
func (t *trust) load(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, t.r.o.IssueTimeout)
	defer stop()
	all, err := t.stored(ctx)
	if errors.Is(err, secret.ErrNone) {
		return
	}
	if err != nil {
		t.r.log.Error("stored trust can't be read", "issuer", t.name, "error", err)
		return
	}
	t.publish(all)
}

func (t *trust) stored(ctx context.Context) ([]roots.Root, error) {
	s, err := t.r.secrets.Load(ctx, t.key())
	if err != nil {
		return nil, err
	}
	t.generation = s.Generation
	var v storedBundle
	if err := json.Unmarshal(s.Value, &v); err != nil || v.Version != 1 || v.Issuer != t.name {
		return nil, fmt.Errorf("%s: version %d of issuer %q: %w", s, v.Version, v.Issuer, secret.ErrCorrupt)
	}
	var all []roots.Root
	for _, sr := range v.Roots {
		certs, err := issue.ParseCertificates([]byte(sr.PEM))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
		all = append(all, roots.Root{Cert: certs[0], Since: sr.Since, Missing: sr.Missing, Until: sr.Until})
	}
	return all, nil
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
		listed, err = roots.Usable(text, now)
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
	next := roots.Merge(old, listed, t.r.leavesOf(t.name), now)
	if slices.EqualFunc(old, next, roots.Root.Equal) {
		return nil
	}
	t.publish(next)
	t.r.log.Info("trust changed", "issuer", t.name, "roots", len(next), "listed", len(listed))
	if err := t.save(ctx, next); err != nil {
		t.r.log.Error("trust is in use but not stored", "issuer", t.name, "error", err)
	}
	return nil
}

func (t *trust) current() []roots.Root {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.roots
}

// publish makes them the issuer's bundle; they are sorted by DER.
func (t *trust) publish(all []roots.Root) {
	t.r.store.SetBundle(&mesh.Bundle{Issuer: t.name, RootsPEM: issue.EncodeCertificates(roots.Certificates(all))})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.roots = all
}

// save stores the bundle; another replica's is overwritten, for both asked
// the same issuer.
func (t *trust) save(ctx context.Context, all []roots.Root) error {
	v := storedBundle{Version: 1, Issuer: t.name}
	for _, x := range all {
		v.Roots = append(v.Roots, storedRoot{string(issue.EncodeCertificates([]*x509.Certificate{x.Cert})), x.Since, x.Missing, x.Until})
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
	chain, err := issue.ParseCertificates(leaf.ChainPEM)
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
	if anchor.Since.IsZero() {
		return nil
	}
	if wait := time.Until(anchor.Since.Add(t.r.o.TrustLead)); wait > 0 && !sleep(ctx, wait) {
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
			return fmt.Errorf("%w: %s, %s", errUnacked, count.Of(len(missing), "node"), strings.Join(missing[:min(5, len(missing))], ", "))
		}
	}
}

// errUnacked: the leaf would be refused by some callers.
var errUnacked = errors.New("the new root is not accepted by every node yet, so the old certificate stays")

// ackPace is how often the nodes' answers are looked at.
const ackPace = 100 * time.Millisecond

// anchor is the root to which a chain leads; of several the one that has been
// trusted for longest.
func (t *trust) anchor(chain []*x509.Certificate) (roots.Root, error) {
	all := t.current()
	paths, err := issue.Anchors(chain, roots.Certificates(all), time.Now())
	if err != nil {
		return roots.Root{}, err
	}
	var found []roots.Root
	for _, v := range all {
		if slices.ContainsFunc(paths, v.Cert.Equal) {
			found = append(found, v)
		}
	}
	return slices.MinFunc(found, func(a, b roots.Root) int { return a.Since.Compare(b.Since) }), nil
}

// anchorOf is the certificate of a leaf's anchor; nil if it has none, or if
// its issuer is unknown.
func (t *trust) anchorOf(leaf *mesh.Leaf) *x509.Certificate {
	if t == nil {
		return nil
	}
	chain, err := issue.ParseCertificates(leaf.ChainPEM)
	if err != nil {
		return nil
	}
	a, err := t.anchor(chain)
	if err != nil {
		return nil
	}
	return a.Cert
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

package pki

import (
	"crypto/x509"
	"math/rand/v2"
	"time"
)

// A root of trust is replaced in four phases, none of which this package
// begins: the issuer lists a second root (announced), signs with it
// (switching), lists the first no longer (retiring), and no leaf needs it any
// more (steady). What this package does is to let no phase hurt: see
// trust.ready and roots.Merge; and to end the second one soon.

// Phases of an issuer's roots, as [IssuerStatus] says them.
const (
	Steady    = "steady"    // one root, or several of which nothing is on its way
	Announced = "announced" // a root is trusted that has not signed yet
	Switching = "switching" // leaves of an older root are in use beside those of a newer
	Retiring  = "retiring"  // a root is trusted that the issuer no longer lists
)

// leastWindow is over how long, at least, all leaves are renewed when their
// issuer has switched to another root.
const leastWindow = 30 * time.Second

// follow renews the leaves of older roots when the first leaf of a newer one
// is in use: that one was the proof that it works. They are spread over a
// window in which the issuer can make them all. r.mu is held.
func (r *Rotator) follow(s *service) {
	t := r.trusts[s.want.issuer]
	since, ok := t.sinceOf(s.anchor)
	if !ok || since.IsZero() || !since.After(t.signing) {
		return
	}
	t.signing = since
	var old []*service
	for _, o := range r.services {
		if was, ok := t.sinceOf(o.anchor); ok && o != s && o.want.issuer == s.want.issuer && o.leaf != nil && was.Before(since) {
			old = append(old, o)
		}
	}
	window := max(leastWindow, time.Duration(float64(len(old))/t.issues.Most*float64(time.Second)))
	now := time.Now()
	for _, o := range old {
		if at := now.Add(time.Duration(rand.Int64N(int64(window)))); o.due.IsZero() || at.Before(o.due) {
			o.due = at
		}
	}
	r.log.Info("issuer signs with a newer root; renewing what older ones signed", "issuer", t.name, "root", s.anchor.Subject.String(), "leaves", len(old), "within", window.String())
}

// sinceOf is since when a root has been trusted; zero: with the first bundle.
func (t *trust) sinceOf(anchor *x509.Certificate) (time.Time, bool) {
	if t == nil || anchor == nil {
		return time.Time{}, false
	}
	for _, v := range t.current() {
		if v.Cert.Equal(anchor) {
			return v.Since, true
		}
	}
	return time.Time{}, false
}

// phase is where the roots of an issuer are, and how many leaves are in use
// that an older root than the newest in use signed. r.mu is held.
func (r *Rotator) phase(t *trust) (phase string, older int) {
	var newest time.Time
	used := map[time.Time]int{}
	for _, s := range r.services {
		if since, ok := t.sinceOf(s.anchor); ok && s.want.issuer == t.name && !s.gone {
			used[since]++
			if since.After(newest) {
				newest = since
			}
		}
	}
	for since, n := range used {
		if since.Before(newest) {
			older += n
		}
	}
	announced, retiring := false, false
	for _, v := range t.current() {
		announced = announced || v.Missing.IsZero() && v.Since.After(newest)
		retiring = retiring || !v.Missing.IsZero()
	}
	switch {
	case older > 0:
		return Switching, older
	case announced:
		return Announced, 0
	case retiring:
		return Retiring, 0
	}
	return Steady, 0
}

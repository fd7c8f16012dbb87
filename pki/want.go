package pki

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"patchbay/mesh"
	"patchbay/pki/issue"
)

// want is what a leaf must be made for.
type want struct {
	issuer string
	names  []string // DNS names, sorted
	uri    string
	kmsKey string // under which it rests; empty: the secret store's choice
}

func (w want) equal(o want) bool {
	return w.issuer == o.issuer && w.uri == o.uri && w.kmsKey == o.kmsKey && slices.Equal(w.names, o.names)
}

// digest names w in the secret store.
func (w want) digest() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", w.issuer, w.names, w.uri))
	return hex.EncodeToString(sum[:8])
}

// wanted are the leaves that there should be.
func (r *Rotator) wanted(snap *mesh.Snapshot) map[mesh.ServiceName]want {
	all := map[mesh.ServiceName]want{}
	for _, v := range snap.Services {
		if v.TLS != nil {
			req := issue.NewRequest(r.o.TrustDomain, v)
			all[v.Name] = want{v.TLS.Issuer, req.Names, req.URI, v.TLS.KMSKey}
		}
	}
	for _, w := range snap.Callers {
		req := issue.ForWorkload(r.o.TrustDomain, w)
		all[req.Service] = want{issuer: r.o.CallersIssuer, names: req.Names, uri: req.URI}
	}
	return all
}

// reconcile makes r.services those that should have a leaf. r.mu is held.
func (r *Rotator) reconcile(snap *mesh.Snapshot) {
	wanted := r.wanted(snap)
	for name, w := range wanted {
		s := r.services[name]
		switch {
		case s == nil:
			s = &service{name: name, want: w, order: rand.Uint64()} //nolint:gosec // not a secret
			r.services[name] = s
		case s.want.equal(w):
			s.gone = false
			continue
		default:
			s.gone, s.want = false, w
			if s.loaded && s.flying == nil {
				r.settle(s)
			}
		}
		if w.kmsKey != "" && !r.o.KMSKeys {
			r.log.Warn("tls.kmsKey has no effect: certificates do not rest in AWS Secrets Manager here", "service", name.String(), "kms_key", w.kmsKey)
		}
		if r.trusts[w.issuer] == nil {
			s.err, s.errAt = r.unknownIssuer(w.issuer), time.Now()
			r.log.Warn("certificate can't be issued", "service", name.String(), "error", s.err)
		}
	}
	for name, s := range r.services {
		if _, ok := wanted[name]; ok {
			continue
		}
		s.gone = true
		if s.flying == nil {
			r.remove(s)
		}
	}
}

// remove forgets what is gone. Its leaf stays where it is. r.mu is
// held.
func (r *Rotator) remove(s *service) {
	s.answer(rotateReply{err: errNotInMesh})
	delete(r.services, s.name)
}

var errNotInMesh = errors.New("there is no such service with TLS in the mesh")

// issuers lists the names of all that are configured.
func (r *Rotator) issuers() []string { return slices.Sorted(maps.Keys(r.trusts)) }

// unknownIssuer says what is wrong with a service whose issuer is not ours.
func (r *Rotator) unknownIssuer(name string) error {
	known := "none"
	if all := r.issuers(); len(all) > 0 {
		known = strings.Join(all, ", ")
	}
	return fmt.Errorf("issuer %q is not configured; configured: %s", name, known)
}

package pki

import (
	"context"
	"fmt"
	"time"

	"patchbay/audit"
	"patchbay/mesh"
	"patchbay/pki/issue"
)

// Brief has the issuer of a service make a leaf for it that lasts for life. It is
// neither used nor stored, and the service's own is not touched: what it is for
// is the caller's affair, and reason goes to the audit log. How short a life may
// be is the issuer's word.
func (r *Rotator) Brief(ctx context.Context, name mesh.ServiceName, life time.Duration, reason string) (*mesh.Leaf, error) {
	r.mu.Lock()
	s := r.services[name]
	var w want
	if s != nil && !s.gone {
		w = s.want
	}
	t := r.trusts[w.issuer]
	r.mu.Unlock()
	switch {
	case w.uri == "":
		return nil, fmt.Errorf("%s: %w", name, errNotInMesh)
	case t == nil:
		return nil, fmt.Errorf("%s: %w", name, r.unknownIssuer(w.issuer))
	}
	ctx, cancel := context.WithTimeout(ctx, r.o.IssueTimeout)
	defer cancel()
	leaf, err := t.issuer.Issue(ctx, issue.Request{Service: name, Names: w.names, URI: w.uri, Lifetime: life})
	if err != nil {
		return nil, err
	}
	leaf.Issuer = w.issuer
	e := flight{name: name}.event(leaf)
	e.Kind, e.Reason = audit.CertificateIssued, reason
	r.o.Audit(e)
	return leaf, nil
}

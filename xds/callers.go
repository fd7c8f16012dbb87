package xds

import (
	"context"
	"slices"
	"time"

	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/claim"
	"patchbay/xds/transition"
	"patchbay/xds/translate"
	"patchbay/xds/views"
)

// Where a service asks its callers for a certificate, each workload gets one.
// A view shows clusters that present it only when every one of its nodes has
// it: a cluster without its secret could call nobody. So a service that begins
// to ask is shown as if it did not, until then; and a node that opens its
// stream later is waited for, or, if its issuer does not answer, is put into a
// view of its own.

const (
	// identityWait is how long the stream of a node waits for its certificate.
	// Envoy waits with it, and calls nobody yet.
	identityWait = 5 * time.Second
	// callerLife is how long a workload keeps its certificate fresh when none
	// of its nodes is connected: a deployment may stop all before it starts any.
	callerLife = time.Hour
)

// Identities says how callers prove who they are: the trust domain of their
// SPIFFE IDs, and the issuer of their certificates. Without it no service can
// ask them.
func Identities(trustDomain, issuer string) Option {
	return func(p *Pusher) { p.identity = translate.Identity{TrustDomain: trustDomain, Issuer: issuer} }
}

// asks reports whether one of the services asks for certificates.
func asks(all []*mesh.Service) bool { return slices.ContainsFunc(all, transition.Asks) }

// identified waits until the workload behind a stream has a certificate, if a
// service that it is told of asks for one; but not for long.
func (p *Pusher) identified(ctx context.Context, c claim.Claim) {
	if c.Proxyless || p.identity.Issuer == "" {
		return
	}
	deadline := time.NewTimer(identityWait)
	defer deadline.Stop()
	for {
		snap := p.store.Snapshot()
		if has(snap, c.Who.Workload) || !validCaller(c.Who.Workload) || !asks(snap.Told(c.Who.Workload.Namespace, mesh.DependenciesOf(c.Meta.Dependencies), snap.Hidden(c.Who.Workload))) {
			return
		}
		p.mu.Lock()
		p.want(c.Who.Workload)
		p.mu.Unlock()
		select {
		case <-p.store.Changed(snap.Generation): // at once, if want has changed it
		case <-deadline.C:
			p.log.Warn("a sidecar starts without a certificate to call with: the issuer has not given it yet", "node", c.Who.ID(), "issuer", p.identity.Issuer)
			return
		case <-ctx.Done():
			return
		}
	}
}

// has reports whether a workload has a certificate that is of use.
func has(snap *mesh.Snapshot, w mesh.Workload) bool {
	l := snap.Leaves[w.CertificateName()]
	return l != nil && (l.NotAfter.IsZero() || time.Now().Before(l.NotAfter))
}

// validCaller: the names become segments of a SPIFFE ID.
func validCaller(w mesh.Workload) bool {
	_, name, ok := policy.Workload(w.Namespace+"/"+w.Name, "")
	return ok && name != "*"
}

// want says which workloads need a certificate, and forgets which have not for
// long. p.mu is held.
func (p *Pusher) want(callers ...mesh.Workload) {
	now := time.Now()
	for _, w := range callers {
		p.callers[w.CertificateName()] = now
	}
	all := make([]mesh.Workload, 0, len(p.callers))
	for name, seen := range p.callers {
		if now.Sub(seen) > callerLife {
			delete(p.callers, name)
		} else if w, ok := name.OfWorkload(); ok {
			all = append(all, w)
		}
	}
	p.store.SetCallers(all)
}

// wantAll is want for all nodes whose services ask. p.mu is held.
func (p *Pusher) wantAll() {
	if p.identity.Issuer == "" {
		return
	}
	needed := len(p.callers) > 0
	for _, v := range p.views {
		needed = needed || v.asks
	}
	if !needed {
		return
	}
	var callers []mesh.Workload
	for _, n := range p.nodes {
		if n.view != nil && n.view.asks && !n.view.Proxyless && validCaller(n.Workload) {
			callers = append(callers, n.Workload)
		}
	}
	p.want(callers...)
}

// unveil shows services as they are in views whose nodes all have their
// certificates now. p.mu is held.
func (p *Pusher) unveil(snap *mesh.Snapshot) {
	for _, v := range p.views {
		if len(v.quiet) > 0 && v.lacking == 0 {
			p.show(v, snap, nil)
		}
	}
}

// place is the view of a node that opens its stream: one without a certificate
// does not enter a view in which it is presented. p.mu is held.
func (p *Pusher) place(key views.View, identified bool) views.View {
	for v := p.views[key]; v != nil && v.presents && !identified; v = p.views[key] {
		key.Late++
	}
	return key
}

// identifies is choose's part about certificates: what to show of s, which may
// not ask yet.
func (v *view) identifies(s *mesh.Service) *mesh.Service {
	switch {
	case !transition.Asks(s) || v.Proxyless:
		delete(v.quiet, s.Name)
	case v.lacking > 0:
		v.quiet[s.Name] = true
		return transition.Quiet(s)
	default:
		delete(v.quiet, s.Name)
		v.presents = true
	}
	return s
}

package appmesh

import (
	"fmt"
	"strings"

	"patchbay/appmesh/model"
)

// trusts notes by which CA each backend of n is verified, and what of its
// client policies has no counterpart.
func (c *converter) trusts(n *model.Resource[model.NodeSpec]) {
	var defaults *model.ClientPolicy
	if n.Spec.BackendDefaults != nil {
		defaults = n.Spec.BackendDefaults.ClientPolicy
		c.clientPolicy(n.Of, "spec.backendDefaults.clientPolicy.tls", defaults)
	}
	for i, b := range n.Spec.Backends {
		if b.VirtualService == nil {
			continue
		}
		own := b.VirtualService.ClientPolicy
		c.clientPolicy(n.Of, fmt.Sprintf("spec.backends[%d].virtualService.clientPolicy.tls", i), own)
		if own == nil {
			own = defaults
		}
		for _, p := range c.behind(b.VirtualService.VirtualServiceName) {
			for _, arn := range authorities(own) {
				p.trust[arn] = true
			}
		}
	}
}

// behind are the ports that calls to a virtual service can arrive at.
func (c *converter) behind(virtual string) []*port {
	front := c.fronts[virtual]
	if front == nil {
		return nil
	}
	out := []*port{front}
	if front.virtual != virtual || front.router == "" {
		return out
	}
	for _, r := range c.routesOf(front.router) {
		x, _, _ := pick(r.Spec)
		if x == nil || x.Action == nil {
			continue
		}
		for _, t := range x.Action.WeightedTargets {
			if p := c.nodes[t.VirtualNode].front(t.Port); p != nil {
				out = append(out, p)
			}
		}
	}
	return out
}

func authorities(p *model.ClientPolicy) []string {
	if p == nil || p.TLS == nil || p.TLS.Validation == nil || p.TLS.Validation.Trust == nil || p.TLS.Validation.Trust.ACM == nil {
		return nil
	}
	return p.TLS.Validation.Trust.ACM.CertificateAuthorityARNs
}

// clientPolicy says what a caller can't choose here: the service's TLS decides.
func (c *converter) clientPolicy(of, at string, p *model.ClientPolicy) {
	if p == nil || p.TLS == nil {
		return
	}
	t := p.TLS
	if t.Enforce != nil && !*t.Enforce {
		c.note(Differs, of, at+".enforce", "a service that speaks TLS is never called in plain text here", "")
	}
	if len(t.Ports) > 0 {
		c.note(Lost, of, at+".ports", "TLS is the service's, for each of its ports", "")
	}
	if t.Certificate != nil {
		c.note(Lost, of, at+".certificate", "the caller showed a certificate of its own", "see mutual TLS of the service that it calls: the control plane issues what is shown")
	}
	c.validation(of, at+".validation", t.Validation)
}

func (c *converter) validation(of, at string, v *model.Validation) {
	if v == nil {
		return
	}
	if s := v.SubjectAlternativeNames; s != nil && s.Match != nil {
		c.note(Differs, of, at+".subjectAlternativeNames", "the certificate must name the service, discoveryName.namespace, and not "+quoted(strings.Join(s.Match.Exact, ", ")), "the control plane issues it so")
	}
	if t := v.Trust; t != nil && t.File != nil {
		c.note(Lost, of, at+".trust.file", "trust comes from the control plane, not from a file in the task", "make that CA an issuer, or let the services change to one")
	}
	if t := v.Trust; t != nil && t.SDS != nil {
		c.note(Lost, of, at+".trust.sds", "trust comes from the control plane, not from a provider in the task", "make that CA an issuer, or let the services change to one")
	}
}

// tls is the tls block of a port.
func (c *converter) tls(n *node, p *port) *issuer {
	t := p.listener.TLS
	if t == nil || t.Mode == "DISABLED" {
		if len(p.trust) > 0 {
			c.note(Differs, n.Of, p.path+".tls", "callers verify it by a CA, but it does not speak TLS", "add tls to its service")
		}
		return nil
	}
	at := p.path + ".tls"
	if t.Mode != "PERMISSIVE" && t.Mode != "STRICT" {
		c.note(Differs, n.Of, at+".mode", quoted(t.Mode)+" is not a mode: STRICT is taken", "")
	}
	if t.Mode == "PERMISSIVE" {
		c.note(Differs, n.Of, at+".mode", "callers with a sidecar use TLS only; whoever has none is refused at the ingress, and reaches the application's own port as before", "")
	}
	if t.Validation != nil {
		c.note(Lost, n.Of, at+".validation", "callers had to show a certificate", "see mutual TLS: it is by services, not by files")
		c.validation(n.Of, at+".validation", t.Validation)
	}
	out := &issuer{}
	out.Authority.ARN = "default"
	if x := t.Certificate; x != nil {
		switch {
		case x.ACM != nil && len(p.trust) == 1:
			out.Authority.ARN = model.Sorted(p.trust)[0]
			c.note(Hint, n.Of, at+".certificate.acm", "the control plane issues short-lived certificates from the CA that callers trust; this one is not used", "add "+out.Authority.ARN+" to the `issuers` of the control plane's file")
		case x.ACM != nil:
			c.note(Differs, n.Of, at+".certificate.acm", fmt.Sprintf("callers trust %d CAs for it: the issuer default is taken", len(p.trust)), "name the CA's ARN in tls, and in the `issuers` of the control plane's file")
		default:
			c.note(Differs, n.Of, at+".certificate", "the control plane issues short-lived certificates, from the issuer default; this one is not used", "")
		}
	}
	return out
}

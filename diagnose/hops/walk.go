package hops

import (
	"fmt"
	"slices"
	"strings"

	"patchbay/admin/api"
	"patchbay/diagnose"
	"patchbay/diagnose/verify"
)

func (w *walker) l7() bool { return w.to.one.Protocol != "tcp" }

func (w *walker) egress() string { return fmt.Sprintf("egress-%s-%d", w.to.vip, w.to.port) }

// lacks is the finding about a resource that the client's Envoy should have.
func (w *walker) lacks(hop, kind, name string) bool {
	if x := w.known(w.Client, "PB1302", "PB1304", "PB1102", "PB1303"); x != nil {
		return w.fail(hop, "the sidecar has no "+kind+" "+name, *x)
	}
	return w.fail(hop, "the sidecar has no "+kind+" "+name, diagnose.Finding{Code: "PB1604", Subject: w.Client, Cause: "the control plane wants it to have " + kind + " " + name,
		Fix: []string{"patchbay status " + w.Client + " -o json"}})
}

func (w *walker) listener() bool {
	const hop = "listener"
	name := w.egress()
	if w.task == nil || w.task.Errors["config_dump"] != "" {
		return w.unseen(hop, name+": the sidecar was not looked into")
	}
	i := slices.IndexFunc(w.task.Listeners, func(l api.TaskListener) bool { return l.Name == name })
	if i < 0 {
		return w.lacks(hop, "listener", name)
	}
	l := w.task.Listeners[i]
	switch {
	case l.State == api.Broken:
		fix := diagnose.BindFix(l.Error)
		if fix == nil {
			fix = []string{"free the port, or use the redirect wiring (NET_ADMIN), where Envoy binds no alias"}
		}
		return w.fail(hop, l.Error, diagnose.Finding{Code: "PB1304", Subject: w.Client, Cause: diagnose.BindCause(l.Error), Evidence: []string{l.Name + ": " + l.Error}, Fix: fix})
	case l.State == api.Warming:
		return w.fail(hop, name+" waits for something", diagnose.Finding{Code: "PB1303", Subject: w.Client, Cause: "listener " + name + " is warming",
			Fix: []string{"patchbay status " + w.Client + " -o json"}})
	}
	return w.ok(hop, "%s is open", name)
}

func (w *walker) route() bool {
	const hop = "route"
	if !w.l7() {
		return w.ok(hop, "tcp: every connection goes to cluster %s", w.to.one.Name)
	}
	if w.task == nil || w.task.Errors["config_dump"] != "" {
		return w.unseen(hop, "the sidecar was not looked into")
	}
	i := slices.IndexFunc(w.task.Routes, func(r api.TaskRoute) bool { return r.Name == w.egress() })
	if i < 0 {
		return w.lacks(hop, "route", w.egress())
	}
	r := w.task.Routes[i]
	if !slices.ContainsFunc(r.Clusters, func(c string) bool { return c == w.to.one.Name || strings.HasPrefix(c, w.to.one.Name+"~") }) {
		return w.fail(hop, "it leads to "+strings.Join(r.Clusters, ", "), diagnose.Finding{Code: "PB1604", Subject: w.Client, Cause: "its route leads elsewhere than to " + w.to.one.Name,
			Fix: []string{"patchbay status " + w.Client + " -o json"}})
	}
	retried := "retried on " + r.RetryOn
	if r.RetryOn == "" {
		retried = "never retried"
	}
	return w.ok(hop, "to %s, timeout %s, %s", strings.Join(r.Clusters, ", "), r.Timeout, retried)
}

func (w *walker) cluster() bool {
	const hop = "cluster"
	name := w.to.one.Name
	if w.task == nil || w.task.Errors["config_dump"] != "" {
		return w.unseen(hop, "the sidecar was not looked into")
	}
	warming := false
	for i, c := range w.task.Clusters {
		if c.Name != name && !strings.HasPrefix(c.Name, name+"~") {
			continue
		}
		warming = warming || c.State == api.Warming
		if c.State == api.Active {
			w.current = &w.task.Clusters[i]
		}
	}
	if w.current == nil && warming {
		return w.fail(hop, "it waits for its endpoints or its trust", w.warming())
	}
	if w.current == nil {
		return w.lacks(hop, "cluster", name)
	}
	text := "plain text"
	if c := w.current; c.TLS {
		text = "TLS 1.3: "
		if len(w.External) > 0 {
			text = "TLS: "
		}
		if c.SNI != "" {
			text += "asks for " + c.SNI + ", "
		}
		text += fmt.Sprintf("accepts %s, trusts %s", strings.Join(c.SANs, ", "), c.Trust)
		for _, s := range w.task.Secrets {
			if s.Name == c.Trust && s.State == api.Warming {
				return w.fail(hop, "the trust "+c.Trust+" has not come", w.warming())
			}
		}
	}
	return w.ok(hop, "%s: %s", w.current.Name, text)
}

// certificate is why the service has none; nil if it has one.
func (w *walker) certificate() *diagnose.Finding {
	for _, i := range w.f.Status.Issuers {
		if w.to.one.TLS != nil && w.to.one.TLS.Issuer == i.Name && i.LastError != "" {
			x := diagnose.Complete(diagnose.IssuerError("issuer "+i.Name, i.LastError))
			return &x
		}
	}
	return w.known(w.to.one.Name, "PB1207", "PB1203")
}

func (w *walker) warming() diagnose.Finding {
	if x := w.certificate(); x != nil {
		return *x
	}
	x := diagnose.Finding{Code: "PB1303", Subject: w.Client, Cause: "cluster " + w.to.one.Name + " is warming", Fix: []string{"patchbay status " + w.Client + " -o json"}}
	if w.from.Stream != nil {
		x.Evidence = w.from.Stream.Warming
	}
	return x
}

func (w *walker) endpoints() bool {
	const hop = "endpoints"
	s := w.to.one
	if len(s.External) > 0 {
		if w.current != nil {
			if x, is := diagnose.Inward(w.Client, *s, w.current.Hosts); is {
				return w.fail(hop, "outside the mesh: "+strings.Join(s.External, ", ")+", which are in it", x)
			}
		}
		return w.ok(hop, "outside the mesh: %s", strings.Join(s.External, ", "))
	}
	if diagnose.Total(s.Endpoints) == 0 || s.Endpoints["UNHEALTHY"] == diagnose.Total(s.Endpoints) {
		return w.fail(hop, "there is none that could answer", w.nobodyServes())
	}
	if w.current == nil {
		return w.unseen(hop, fmt.Sprintf("%d are wanted; the sidecar was not looked into", diagnose.Total(s.Endpoints)))
	}
	var failing []string
	usable := 0
	for _, h := range w.current.Hosts {
		if len(h.Failing) == 0 {
			usable++
		} else {
			failing = append(failing, h.Address+": "+strings.Join(h.Failing, ", "))
		}
	}
	switch {
	case len(w.current.Hosts) == 0:
		return w.fail(hop, fmt.Sprintf("the sidecar has none; %d are wanted", diagnose.Total(s.Endpoints)), diagnose.Finding{Code: "PB1604", Subject: w.Client,
			Cause: "its cluster " + w.current.Name + " has no host", Fix: []string{"patchbay status " + w.Client + " -o json"}})
	case usable == 0:
		// What follows says why it stopped calling them.
		return w.unseen(hop, "all are ejected or unhealthy: "+strings.Join(failing, "; ")+w.panics(0))
	case len(failing) > 0:
		if all := w.panics(usable * 100 / len(w.current.Hosts)); all != "" {
			return w.ok(hop, "%d of %d are well; not %s%s", usable, len(w.current.Hosts), strings.Join(failing, "; "), all)
		}
		return w.ok(hop, "%d of %d are called; not %s", usable, len(w.current.Hosts), strings.Join(failing, "; "))
	}
	return w.ok(hop, "%d, all are called", usable)
}

// panics says that all endpoints are called in spite of their health, where so
// few percent of them are well; empty: they are not.
func (w *walker) panics(well int) string {
	for _, p := range w.Policy {
		if threshold, is := p.Value.(float64); is && p.Member == "loadBalancing.panicThreshold" && float64(well) < threshold {
			return fmt.Sprintf("; so few that all are called (panicThreshold %g)", threshold)
		}
	}
	return ""
}

// nobodyServes is the reason for which a service has no usable endpoint: that
// of a task that offers it, if there is one.
func (w *walker) nobodyServes() diagnose.Finding {
	for _, s := range w.f.Status.Sidecars {
		for _, p := range s.Ports {
			if p.Service != w.to.one.Name {
				continue
			}
			if x := w.known(s.Node, "PB1302", "PB1304", "PB1401", "PB1301", "PB1303", "PB1404", "PB1306"); x != nil {
				if root := w.certificate(); root != nil && x.Code == "PB1303" {
					x = root // it is that what it waits for
				}
				return *x
			}
		}
	}
	if x := w.known(w.to.one.Name, "PB1006", "PB1107", "PB1104", "PB1203", "PB1502", "PB1501"); x != nil {
		return *x
	}
	return diagnose.Finding{Code: "PB1501", Subject: w.to.one.Name, Cause: "no connected task offers it", Fix: []string{"start a task that offers it"}}
}

func (w *walker) tls() bool {
	const hop = "tls"
	if len(w.External) > 0 {
		return w.outsideTLS()
	}
	d := w.f.Details[w.to.one.Name]
	if d == nil {
		return w.unseen(hop, "no handshake was made")
	}
	good, seen := []string{}, 0
	for _, e := range d.Instances {
		p, ok := w.f.Ports[e.Address]
		if !ok {
			continue
		}
		seen++
		var x *diagnose.Finding
		diagnose.Endpoint(p, d, func(f diagnose.Finding) { x = &f })
		if x != nil && x.Severity != diagnose.Warning {
			detail := x.Cause
			if d.TLS == nil {
				detail = "plain; " + detail
			}
			return w.fail(hop, e.Address+": "+detail, *x)
		}
		good = append(good, e.Address+" "+shown(p, e.TLS))
	}
	if seen == 0 {
		return w.unseen(hop, "no handshake was made: the endpoints could not be looked at from the client")
	}
	return w.ok(hop, "%s", strings.Join(good, "; "))
}

func shown(p verify.Endpoint, tls bool) string {
	if !tls {
		return "plain"
	}
	if p.Leaf == nil {
		return p.Modern.Version
	}
	return fmt.Sprintf("%s, %s until %s", p.Modern.Version, strings.Join(p.Leaf.DNSNames, ", "), p.Leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"))
}

// ingress is the other side's Envoy.
func (w *walker) ingress() bool {
	const hop = "ingress"
	open, seen := 0, 0
	for _, s := range w.f.Status.Sidecars {
		for _, p := range s.Ports {
			if p.Service != w.to.one.Name {
				continue
			}
			seen++
			if x := w.known(s.Node, "PB1304", "PB1302"); x != nil && !p.Registered {
				continue
			}
			open++
		}
	}
	if seen == 0 {
		return w.unseen(hop, "no agent of an endpoint is connected")
	}
	return w.ok(hop, "%d of %d tasks take connections", open, seen)
}

func (w *walker) application() bool {
	const hop = "application"
	up, seen := 0, 0
	var down []string
	for _, s := range w.f.Status.Sidecars {
		for _, p := range s.Ports {
			if p.Service != w.to.one.Name {
				continue
			}
			if seen++; p.Health == "HEALTHY" {
				up++
			} else {
				down = append(down, s.Node+" "+p.Health)
			}
		}
	}
	switch {
	case seen == 0:
		return w.unseen(hop, "no agent of an endpoint is connected")
	case up == 0:
		return w.fail(hop, strings.Join(down, "; "), w.nobodyServes())
	case len(down) > 0:
		return w.ok(hop, "%d of %d are up; not %s", up, seen, strings.Join(down, "; "))
	}
	return w.ok(hop, "%d of %d are up", up, seen)
}

package diagnose

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"patchbay/admin/api"
)

const (
	// settle is how long a sidecar may take to start, or to answer, before
	// that is worth a finding.
	settle = 10 * time.Second
	// silence is when an agent that reports every 5 s has fallen silent.
	silence = 20 * time.Second
	// rivals is how often within a minute streams of one task replace each other
	// where it is two tasks.
	rivals = 3
)

// oldest is the oldest Envoy that patchbay works with.
var oldest = [2]int{1, 40}

func checkSidecars(f *Facts, add func(Finding)) {
	if f.Status == nil {
		return
	}
	now := f.Status.At
	for _, s := range f.Status.Sidecars {
		if s.Agent == nil {
			if s.Stream != nil && now.Sub(s.Stream.Opened) > settle {
				add(Finding{Code: "PB1308", Subject: s.Node, Cause: "its Envoy is connected, but no agent: names, registration and drain do not happen",
					Evidence: []string{"the xDS stream is open since " + s.Stream.Opened.UTC().Format(time.RFC3339)}, Fix: []string{"start patchbay sidecar for this task, or look at its log"}})
			}
		} else if !s.Agent.Draining {
			agent(f.Status, s, now, add)
		}
		if s.Stream != nil {
			for _, t := range s.Stream.Types {
				sync(s, t, now, add)
			}
			missing(s, now, add)
		}
	}
}

func agent(st *api.Status, s api.Sidecar, now time.Time, add func(Finding)) {
	a := s.Agent
	var major, minor int
	if n, _ := fmt.Sscanf(a.EnvoyVersion, "%d.%d", &major, &minor); n == 2 && (major < oldest[0] || major == oldest[0] && minor < oldest[1]) {
		add(Finding{Code: "PB1305", Subject: s.Node, Cause: "it is " + a.EnvoyVersion, Evidence: []string{fmt.Sprintf("patchbay needs %d.%d or newer", oldest[0], oldest[1])},
			Fix: []string{"give the task a newer Envoy image"}})
	}
	if !a.LastHealth.IsZero() && now.Sub(a.LastHealth) > silence {
		add(Finding{Code: "PB1404", Subject: s.Node, Cause: "its agent is connected and has reported nothing for " + span(now.Sub(a.LastHealth)),
			Fix: []string{"look whether the task's machine is overloaded or suspended, and at the sidecar's log"}})
	}
	if r := a.Rivalry; r != nil && r.Count >= rivals {
		add(Finding{Code: "PB1405", Subject: s.Node, Cause: "two tasks use one task name, from " + strings.Join(r.Addresses, " and ") + ": each takes the other's place",
			Evidence: []string{fmt.Sprintf("%d times within the last minute", r.Count)}, Fix: []string{"give each task a name of its own: --task of patchbay sidecar, the host's name by default"}})
	}
	if a.EnvoyError != "" {
		add(unbound(s.Node, a.EnvoyError, strings.Split(a.EnvoyError, "; ")...))
	}
	if s.Stream == nil && now.Sub(a.Since) > settle {
		add(Finding{Code: "PB1301", Subject: s.Node, Cause: "its agent is connected, its Envoy is not", Evidence: []string{"agent connected since " + a.Since.UTC().Format(time.RFC3339)},
			Fix: []string{"look at the sidecar's log: Envoy may not run, or not reach the xDS port", "patchbay sidecar health --json    (in the task)"}})
	} else if !a.EnvoyReady && a.EnvoyError == "" && now.Sub(a.Since) > settle {
		add(Finding{Code: "PB1306", Subject: s.Node, Cause: "Envoy has not said that it is live", Evidence: []string{"agent connected since " + a.Since.UTC().Format(time.RFC3339)},
			Fix: []string{"the findings above say what it waits for; else: patchbay sidecar health --json    (in the task)"}})
	}
	for _, r := range a.NamesRefused {
		if !ownName(st, s, r) {
			add(refusedName(s.Node, r))
		}
	}
	if len(a.NamesWaiting) > 0 && now.Sub(a.Since) > settle {
		add(Finding{Code: "PB1403", Subject: s.Node, Cause: "Envoy does not listen for them yet", Evidence: a.NamesWaiting,
			Fix: []string{"the findings about this sidecar say what Envoy waits for"}})
	}
	for _, p := range s.Ports {
		port(s, p, now, add)
	}
}

// BindCause is why Envoy does not open a listener, from its own words.
func BindCause(text string) string {
	switch {
	case strings.Contains(text, "Permission denied"):
		return "Envoy's user may not open a port below 1024"
	case strings.Contains(text, "Address already in use") || strings.Contains(text, "cannot bind"):
		return "another program of the task has the port"
	}
	return "Envoy refuses it"
}

// unbound is a listener that an Envoy can't open, for the reason in text.
func unbound(node, text string, evidence ...string) Finding {
	x := Finding{Code: "PB1304", Subject: node, Cause: BindCause(text), Evidence: evidence}
	if x.Fix = BindFix(text); x.Fix == nil {
		x.Fix = []string{"free the port, or move Envoy's: ingressPortOverride in the service's block"}
	}
	return x
}

// BindFix is what to do about a port that Envoy's user may not open; nil, where
// that is not the reason.
func BindFix(text string) []string {
	if !strings.Contains(text, "Permission denied") {
		return nil
	}
	return []string{
		"give the alias a port of 1024 or above: clientAliases[].port",
		"or use the redirect wiring (NET_ADMIN), where Envoy opens one port of its own",
		"or let everybody open it, where the task runs: sysctl -w net.ipv4.ip_unprivileged_port_start=80",
	}
}

// ownName reports whether a refused name is that of a service which the task
// itself offers: in the bind wiring that is always so, and it need not call
// itself.
func ownName(st *api.Status, s api.Sidecar, text string) bool {
	for _, v := range st.Services {
		if !slices.ContainsFunc(s.Ports, func(p api.PortStatus) bool { return p.Service == v.Name }) {
			continue
		}
		if slices.ContainsFunc(v.Aliases, func(a api.Alias) bool { return strings.HasPrefix(text, fmt.Sprintf("%s:%d: ", a.DNSName, a.Port)) }) {
			return true
		}
	}
	return false
}

func refusedName(node, text string) Finding {
	if strings.Contains(text, "a container of this task uses port") {
		return Finding{Code: "PB1102", Subject: node, Cause: text, Fix: []string{
			"give the sidecar NET_ADMIN: the redirect wiring has no such limit",
			"or call the service under another port: add a clientAlias",
		}}
	}
	if strings.Contains(text, ": egress-") { // it is the listener that Envoy does not open, not the name
		return unbound(node, text, text)
	}
	if strings.Contains(text, ": the agent itself ") {
		return Finding{Code: "PB1402", Subject: node, Cause: text, Fix: []string{"give the service whose alias it is another dnsName in clientAliases"}}
	}
	return Finding{Code: "PB1402", Subject: node, Cause: text, Fix: []string{"share the hosts file with the sidecar, writable for its user (--hosts-file)"}}
}

func port(s api.Sidecar, p api.PortStatus, now time.Time, add func(Finding)) {
	switch {
	case p.Error != "":
		add(registration(s.Node, p.PortName, p.Service, p.Error))
	case p.Health == "UNHEALTHY" && s.Agent.EnvoyReady && s.Agent.EnvoyError == "" && now.Sub(s.Agent.Since) > settle:
		if strings.HasPrefix(p.Why, "Envoy ") {
			add(Finding{Code: "PB1303", Subject: s.Node, Cause: "port " + p.PortName + " of " + p.Service + ": " + p.Why,
				Fix: []string{"look at the findings about this service's certificate and its issuer"}})
			return
		}
		add(Finding{Code: "PB1401", Subject: s.Node, Cause: "nothing accepts connections at the containerPort of " + p.PortName + said(p.Why),
			Evidence: []string{"port " + p.PortName + " of " + p.Service + " is " + p.Health + ", registered: " + fmt.Sprint(p.Registered)},
			Fix: []string{
				"start the application, or correct containerPort in portMappings",
				"ss -ltnp    (in the task: what listens, and where; 127.0.0.1 or every address will do)",
			}})
	}
}

func said(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// missing is about secrets that Envoy waits for: a listener or a cluster that
// needs one does not work without.
func missing(s api.Sidecar, now time.Time, add func(Finding)) {
	if len(s.Stream.Missing) == 0 || now.Sub(s.Stream.Opened) < settle {
		return
	}
	add(Finding{Code: "PB1303", Subject: s.Node, Cause: "secrets that it asks for do not exist: " + strings.Join(s.Stream.Missing, ", "), Evidence: s.Stream.Warming,
		Fix: []string{"look at the findings about these services' certificates and their issuers"}})
}

// sync judges one type of resources.
func sync(s api.Sidecar, t api.TypeSync, now time.Time, add func(Finding)) {
	names := strings.Join(t.Names, ", ")
	if t.More > 0 {
		names += fmt.Sprintf(" and %d more", t.More)
	}
	switch t.State {
	case api.Rejected:
		for _, r := range t.Rejections {
			if strings.Contains(r.Error, "cannot bind") {
				add(unbound(s.Node, r.Error, r.Error))
				continue
			}
			add(Finding{Code: "PB1302", Subject: s.Node, Cause: t.Type + " " + r.Name + ": " + r.Error,
				Evidence: []string{"version " + r.Version + ", at " + r.At.UTC().Format(time.RFC3339), "what Envoy had before stays in use"},
				Fix:      []string{"patchbay status " + s.Node + " -o json    (what was sent, accepted and rejected)", "change what the service declares; the next version is sent at once"}})
		}
	case api.Stale:
		if age := now.Sub(t.Since); age > settle && !t.Since.IsZero() {
			add(Finding{Code: "PB1307", Subject: s.Node, Cause: "changes of " + t.Type + " have waited for " + span(age) + " to be sent", Evidence: []string{names},
				Fix: []string{"look at the load of the task's machine: its Envoy does not read its stream"}})
		}
	case api.Waiting:
		if age := now.Sub(t.Since); age > settle && t.Type == "cds" {
			add(Finding{Code: "PB1303", Subject: s.Node, Cause: "clusters are not acknowledged for " + span(age) + ": one of them waits for its endpoints or its secrets",
				Evidence: append([]string{names}, s.Stream.Warming...), Fix: []string{"look for what is missing: patchbay status " + s.Node + " -o json", "a service with TLS and no certificate keeps its callers waiting"}})
		} else if age > settle {
			add(Finding{Code: "PB1307", Subject: s.Node, Cause: t.Type + " is not acknowledged for " + span(age), Evidence: []string{names},
				Fix: []string{"look at the load of the task's machine: its Envoy does not read or answer its stream"}})
		}
	}
}

package agents

import (
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"

	"patchbay/agentapi"
	"patchbay/mesh"
)

// What an agent says is shown to people and counted for ever, and one task of a
// workload may be another's: texts lose what a terminal obeys, lists and texts
// have an end, and numbers are numbers.
const (
	wordMost  = 64   // a version
	textMost  = 2000 // an error
	namesMost = 5000 // names of one answer
	msMost    = 1e9  // eleven days
)

// plain is a text without control characters, of at most so many characters.
func plain(s string, most int) string {
	var out strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > most {
			return out.String() + "…"
		}
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			r = ' '
		case !unicode.IsPrint(r):
			r = unicode.ReplacementChar
		}
		out.WriteRune(r)
	}
	return out.String()
}

func cleanHello(h *agentapi.Hello) {
	h.AgentVersion, h.EnvoyVersion = plain(h.GetAgentVersion(), wordMost), plain(h.GetEnvoyVersion(), wordMost)
}

// cleanHealth leaves the ports that the agent has said it has.
func (s *session) cleanHealth(h *agentapi.Health) {
	other := func(name string) bool {
		return !slices.ContainsFunc(s.ports, func(p *port) bool { return p.PortName == name })
	}
	h.EnvoyError = plain(h.GetEnvoyError(), textMost)
	maps.DeleteFunc(h.GetPorts(), func(name string, _ agentapi.Health_State) bool { return other(name) })
	maps.DeleteFunc(h.GetWhy(), func(name, _ string) bool { return other(name) })
	for name, why := range h.GetWhy() {
		h.Why[name] = plain(why, textMost)
	}
	for name, state := range h.GetPorts() {
		if _, known := agentapi.Health_State_name[int32(state)]; !known {
			h.Ports[name] = agentapi.Health_UNKNOWN
		}
	}
}

func cleanNames(n *agentapi.NamesApplied) {
	n.Version = plain(n.GetVersion(), wordMost)
	n.Waiting, n.Refused = plainList(n.GetWaiting()), plainList(n.GetRefused())
}

func plainList(all []string) []string {
	all = all[:min(len(all), namesMost)]
	for i, s := range all {
		all[i] = plain(s, textMost)
	}
	return all
}

// cleanTraffic leaves the services and revisions that the mesh has.
func cleanTraffic(t *agentapi.Traffic, snap *mesh.Snapshot, namespace string) {
	called := make([]*agentapi.Called, 0, len(t.GetCalled()))
	seen := map[string]bool{}
	for _, c := range t.GetCalled() {
		name, in := strings.CutSuffix(c.GetService(), "."+namespace)
		v := snap.Service(mesh.ServiceName{Namespace: namespace, DiscoveryName: name})
		if !in || v == nil || seen[name] {
			continue
		}
		seen[name] = true
		c.P50Ms, c.P99Ms = milliseconds(c.GetP50Ms()), milliseconds(c.GetP99Ms())
		c.Revisions = slices.DeleteFunc(c.GetRevisions(), func(r *agentapi.Revision) bool { return !has(v, r.GetRevision()) })
		called = append(called, c)
	}
	t.Called = called
}

// has reports whether a service has a revision.
func has(v *mesh.Service, name string) bool {
	return slices.ContainsFunc(v.Endpoints, func(e mesh.Endpoint) bool { return e.Revision == name }) || slices.Contains(v.Deployment.Revisions(), name)
}

// milliseconds is 0 for what is no duration.
func milliseconds(v float64) float64 {
	if math.IsNaN(v) || v < 0 {
		return 0
	}
	return min(v, msMost)
}

// keep forgets what was counted of services that the mesh no longer has. The
// ledger is locked.
func (l *ledger) keep(snap *mesh.Snapshot) {
	there := make(map[string]bool, len(snap.Services))
	for _, v := range snap.Services {
		there[v.Name.String()] = true
	}
	gone := func(service string) bool { return !there[service] }
	maps.DeleteFunc(l.totals, func(service string, _ *Flow) bool { return gone(service) })
	maps.DeleteFunc(l.split, func(r revision, _ *Flow) bool { return gone(r.service) })
	for _, a := range l.tasks {
		a.traffic.Called = slices.DeleteFunc(a.traffic.GetCalled(), func(c *agentapi.Called) bool { return gone(c.GetService()) })
	}
}

package agents

import (
	"maps"
	"slices"
	"strings"
	"unicode"

	"patchbay/agentapi"
)

// What an agent says is shown to people, and one task of a workload may be
// another's: texts lose what a terminal obeys, and lists and texts have an end.
// What it counts is cleaned by package traffic.
const (
	wordMost  = 64   // a version
	textMost  = 2000 // an error
	namesMost = 5000 // names of one answer
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

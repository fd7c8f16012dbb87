package show

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"patchbay/admin/api"
	"patchbay/diagnose"
	"patchbay/internal/count"
	"patchbay/internal/suggest"
)

// types are the columns of a sidecar.
var types = []string{"cds", "eds", "lds", "rds", "sds"}

// Status prints a line for each sidecar and each service, with what is wrong.
func (p *Printer) Status(st *api.Status, findings []diagnose.Finding) {
	p.heading(st)
	if len(st.Sidecars) > 0 {
		p.line("")
		p.sidecars(st, findings)
	}
	if len(st.Services) > 0 {
		p.line("")
		p.services(st, findings)
	}
	shown := map[string]bool{}
	for _, s := range st.Sidecars {
		shown[s.Node] = true
	}
	for _, s := range st.Services {
		shown[s.Name] = true
	}
	for _, f := range findings {
		if !shown[f.Subject] {
			p.line("%s %s %s: %s: %s", p.paint(bad, "✗"), f.Code, f.Title, f.Subject, f.Cause)
		}
	}
	if len(findings) > 0 {
		p.line("\n%s: patchbay doctor", p.paint(bad, count.Of(len(findings), "finding")))
	}
}

func (p *Printer) heading(st *api.Status) {
	state := p.paint(good, "ready")
	if !st.Ready {
		state = p.paint(bad, "not ready") + ": " + strings.Join(st.Reasons, "; ")
	}
	outage := ""
	if st.SurvivableSeconds != nil {
		outage = "; the mesh runs on for " + span(time.Duration(*st.SurvivableSeconds*float64(time.Second))) + " without its CA"
	}
	p.line("control plane %s (patchbay %s, up %s): %s; %s, %s%s", p.paint(bold, st.Replica), st.Version, span(st.At.Sub(st.Started)), state,
		count.Of(len(st.Sidecars), "sidecar"), count.Of(len(st.Services), "service"), outage)
	for _, i := range st.Issuers {
		if i.LastError != "" {
			p.line("issuer %s: %s", i.Name, p.paint(bad, i.LastError))
		}
	}
	p.around(st)
}

// around says how what the control plane works with fares: the other replicas,
// events, and the registry where it limits the rate.
func (p *Printer) around(st *api.Status) {
	if len(st.Replicas) > 0 {
		var all []string
		for _, r := range st.Replicas {
			state := p.paint(good, "heard")
			if !r.Heard {
				state = p.paint(bad, "not heard")
			}
			all = append(all, r.Address+" "+state)
		}
		p.line("replicas: %s", strings.Join(all, ", "))
	}
	if e := st.Events; e != nil {
		switch {
		case e.Standing && e.Error == "":
			p.line("events of ECS: %s, %s taken", p.paint(good, "arrive"), count.Of(int(e.Tasks), "hint"))
		case e.Error != "":
			p.line("events of ECS: %s; changes are found by polling", p.paint(bad, e.Error))
		default:
			p.line("events of ECS: %s; changes are found by polling", p.paint(bad, "none yet"))
		}
	}
	if r := st.Registry; r != nil && !r.LastThrottled.IsZero() {
		slowed := ""
		for _, op := range slices.Sorted(maps.Keys(r.Slowed)) {
			slowed += fmt.Sprintf(", %s at %.0f %% of its budget", op, 100*r.Slowed[op])
		}
		p.line("registry: throttled %s, last %s ago%s", count.Of(int(r.Throttled), "call"), span(st.At.Sub(r.LastThrottled)), slowed)
	}
}

func (p *Printer) sidecars(st *api.Status, findings []diagnose.Finding) {
	wide := p.Format == Wide
	header := []string{"SIDECAR", "ZONE", "ENVOY", "CDS", "EDS", "LDS", "RDS", "SDS", "ACK", "LEAF"}
	if wide {
		header = append(header, "ADDRESS", "WIRING", "AGENT", "UP", "VIEW", "REPLICA")
	}
	header = append(header, "")
	var rows [][]string
	for _, s := range st.Sidecars {
		row := []string{s.Node, dash(s.Zone), p.envoy(s)}
		row = append(row, p.types(s, st.At)...)
		row = append(row, lastAck(s), p.leaf(s.LeafNotAfter, st.At))
		if wide {
			row = append(row, extra(s, st.At)...)
		}
		rows = append(rows, append(row, p.note(findings, s.Node)))
	}
	p.table(header, rows)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (p *Printer) envoy(s api.Sidecar) string {
	switch {
	case s.Agent == nil:
		return p.paint(weak, "no agent")
	case s.Agent.Draining:
		return s.Agent.EnvoyVersion + " " + p.paint(weak, "draining")
	case !s.Agent.EnvoyReady:
		return s.Agent.EnvoyVersion + " " + p.paint(bad, "not ready")
	}
	return s.Agent.EnvoyVersion
}

// types are the states of the five types, with the age of those that are not
// synced.
func (p *Printer) types(s api.Sidecar, now time.Time) []string {
	if s.Stream == nil {
		return []string{p.paint(bad, "not connected"), "", "", "", ""}
	}
	out := make([]string, len(types))
	for i, name := range types {
		out[i] = p.paint(faint, "-")
		for _, t := range s.Stream.Types {
			if t.Type == name {
				out[i] = p.state(t, now)
			}
		}
	}
	return out
}

func (p *Printer) state(t api.TypeSync, now time.Time) string {
	age := ""
	if !t.Since.IsZero() {
		age = " " + span(now.Sub(t.Since))
	}
	switch t.State {
	case api.Synced:
		return p.paint(good, "synced")
	case api.Rejected:
		return p.paint(bad, "rejected"+age)
	}
	return p.paint(weak, t.State+age)
}

func lastAck(s api.Sidecar) string {
	if s.Stream == nil {
		return "-"
	}
	var last api.TypeSync
	for _, t := range s.Stream.Types {
		if t.LastAck.After(last.LastAck) {
			last = t
		}
	}
	if last.LastAckSeconds == 0 {
		return "-"
	}
	return span(time.Duration(last.LastAckSeconds * float64(time.Second)))
}

func (p *Printer) leaf(until, now time.Time) string {
	if until.IsZero() {
		return "-"
	}
	left := until.Sub(now)
	if left <= 0 {
		return p.paint(bad, "expired")
	}
	return span(left)
}

func extra(s api.Sidecar, now time.Time) []string {
	out := []string{dash(s.Address), "-", "-", "-", "-", s.Replica}
	if s.Agent != nil {
		out[1], out[2], out[3] = s.Agent.Wiring, s.Agent.Version, span(now.Sub(s.Agent.Since))
	}
	if s.Stream != nil {
		out[4] = s.Stream.View
	}
	return out
}

// note names the first finding, and how many more there are.
func (p *Printer) note(all []diagnose.Finding, subject string) string {
	mine := diagnose.About(all, subject)
	if len(mine) == 0 {
		return ""
	}
	color := bad
	if mine[0].Severity == diagnose.Warning {
		color = weak
	}
	more := ""
	if len(mine) > 1 {
		more = fmt.Sprintf(" (and %d more)", len(mine)-1)
	}
	return p.paint(color, mine[0].Code) + " " + text.Snip(firstLine(mine[0].Title+": "+mine[0].Cause), 160, "…") + more
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// Select keeps the sidecars and services that a person named: by a full name,
// else by the name of a task, a workload or a service, else by a part of it.
func Select(st *api.Status, name string) error {
	nodes, services := []api.Sidecar{}, []api.Service{}
	for _, match := range []func(string) bool{
		func(s string) bool { return s == name },
		func(s string) bool { return strings.Contains(s+"/", "/"+name+"/") || strings.HasPrefix(s, name+".") },
		func(s string) bool { return strings.Contains(s, name) },
	} {
		for _, s := range st.Sidecars {
			if match(s.Node) {
				nodes = append(nodes, s)
			}
		}
		for _, s := range st.Services {
			if match(s.Name) {
				services = append(services, s)
			}
		}
		if len(nodes)+len(services) > 0 {
			break
		}
	}
	if len(nodes)+len(services) == 0 {
		var all []string
		for _, s := range st.Services {
			all = append(all, s.Name)
		}
		for _, s := range st.Sidecars {
			all = append(all, s.Node)
		}
		if near := suggest.Part(name, all); near != "" {
			return fmt.Errorf("no sidecar and no service is called %q; did you mean %s?", name, near)
		}
		return fmt.Errorf("no sidecar and no service is called %q; `patchbay status` lists them", name)
	}
	st.Sidecars, st.Services = nodes, services
	return nil
}

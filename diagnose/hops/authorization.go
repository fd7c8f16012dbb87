package hops

import (
	"fmt"
	"net/url"
	"strings"

	"patchbay/diagnose"
	"patchbay/mesh/policy"
)

// presented is what the service wants to see of its caller. A service that
// asks for nothing has no such hop.
func (w *walker) presented() bool {
	const hop = "certificate"
	m := w.to.one.MutualTLS
	if !m.Asks() || w.to.one.TLS == nil {
		return true
	}
	workload := workloadOf(w.Client)
	switch id := w.shows(); {
	case id != "":
		return w.ok(hop, "%s: the client shows %s", m.Mode, id)
	case m.Mode == policy.Permissive:
		return w.ok(hop, "permissive: the client shows none, and is let in")
	}
	if x := w.known("workload "+workload, "PB1210", "PB1204"); x != nil {
		return w.fail(hop, "required, and the client has none", *x)
	}
	return w.fail(hop, "required, and the client has none", diagnose.Finding{Code: "PB1210", Subject: "workload " + workload, Cause: "it has not been given one yet",
		Fix: []string{"patchbay status " + w.Client}})
}

// shows is the SPIFFE ID in the client's certificate; empty: it has none.
func (w *walker) shows() string {
	for _, c := range w.f.Status.Callers {
		if c.Workload == workloadOf(w.Client) && c.TLS.Serial != "" {
			return c.SPIFFEID
		}
	}
	return ""
}

// authorization is what the service's rules say of the call. Its method is not
// known: a rule that restricts methods counts as if it fitted.
func (w *walker) authorization() bool {
	const hop = "authorization"
	a := w.to.one.Authorization
	if a == nil {
		return true
	}
	var call policy.Call
	if w.shows() != "" {
		call.Namespace, call.Workload, _ = strings.Cut(workloadOf(w.Client), "/")
	}
	if w.l7() {
		call.Path = "/"
		if u, err := url.Parse(w.URL); err == nil && u.Path != "" {
			call.Path = u.EscapedPath()
		}
	}
	rule, why := a.Judge(diagnose.NamespaceOf(w.to.one.Name), call)
	switch {
	case rule >= 0 && len(a.Rules[rule].Methods) > 0:
		return w.ok(hop, "rules[%d] allows %s with %s", rule, call, strings.Join(a.Rules[rule].Methods, ", "))
	case rule >= 0:
		return w.ok(hop, "rules[%d] allows %s", rule, call)
	case a.DryRun:
		return w.ok(hop, "dry run: no rule allows %s, and it is let in all the same: %s", call, strings.Join(why, "; "))
	}
	return w.fail(hop, fmt.Sprintf("no rule allows %s", call), diagnose.Finding{Code: "PB1510", Subject: w.to.one.Name, Cause: fmt.Sprintf("no rule of its authorization allows %s", call), Evidence: why,
		Fix: []string{"add the client's workload to `from` of a rule that covers the path, in the policy of " + w.to.one.Name, "or call from a workload that may"}})
}

// workloadOf is namespace/workload of a node id.
func workloadOf(node string) string { return node[:max(0, strings.LastIndex(node, "/"))] }

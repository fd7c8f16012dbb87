package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"patchbay/admin/api"
	"patchbay/internal/count"
	"patchbay/mesh"
)

// lately is how long something that was counted is a finding: agents count
// every five seconds, and what was mended is soon over.
const lately = 2 * time.Minute

// undeclared is about tasks that leave out what their workload has called: a
// deployment that forgot a dependency.
func undeclared(f *Facts, e api.Edge, add func(Finding)) {
	if e.Requests+e.Connections == 0 {
		return
	}
	for _, s := range f.Status.Sidecars {
		if strings.HasPrefix(s.Node, e.Workload+"/") {
			if x, out := Undeclared(s, e.Service); out {
				x.Evidence = append(x.Evidence, "other tasks of "+e.Workload+" have called it")
				add(x)
			}
		}
	}
}

// Undeclared reports whether the dependencies that a task declares leave out a
// service of its namespace, and the finding about that.
func Undeclared(s api.Sidecar, service string) (Finding, bool) {
	name, namespace, _ := strings.Cut(service, ".")
	if s.Agent == nil || len(s.Agent.Dependencies) == 0 || !strings.HasPrefix(s.Node, namespace+"/") || slices.Contains(s.Agent.Dependencies, name) {
		return Finding{}, false
	}
	return Finding{Code: "PB1606", Subject: s.Node, Cause: service + " is not declared: its dependencies are " + strings.Join(s.Agent.Dependencies, ", "),
		Evidence: []string{"a sidecar that declares dependencies is told of these only"},
		Fix:      []string{"add " + name + " to `dependencies` in the task's declaration, and start the task again", "or remove `dependencies`: then it may call everything in its namespace"}}, true
}

// Hidden reports whether a service is a target outside the mesh that the task's
// workload may not call, and the finding about that.
func Hidden(s api.Sidecar, target api.Service) (Finding, bool) {
	_, rest, _ := strings.Cut(s.Node, "/")
	workload, _, _ := strings.Cut(rest, "/")
	if len(target.Callers) == 0 || slices.Contains(target.Callers, workload) {
		return Finding{}, false
	}
	return Finding{Code: "PB1607", Subject: s.Node, Cause: target.Name + " is for " + strings.Join(target.Callers, ", ") + " alone",
		Evidence: []string{"a target outside the mesh that lists callers exists in their tasks only"},
		Fix:      []string{"add " + workload + " to `callers` of the target in the control plane's file, under `external`, and start the control plane again"}}, true
}

// OutsideTLSFix is what to look at where the certificate of a target outside the
// mesh is not accepted.
const OutsideTLSFix = "compare `tls` of the target in the control plane's file, under `external`: `caFile` must hold the CA of its certificate, `names` one of the certificate's DNS names, `sni` what the target is asked for"

// checkTraffic judges what the sidecars' own counters say.
func checkTraffic(f *Facts, add func(Finding)) {
	if f.Status == nil || f.Traffic == nil {
		return
	}
	recent := func(at time.Time) bool { return !at.IsZero() && f.Status.At.Sub(at) < lately }
	for _, e := range f.Traffic.Edges {
		undeclared(f, e, add)
		i := slices.IndexFunc(f.Status.Services, func(s api.Service) bool { return s.Name == e.Service && s.TLS != nil })
		if i < 0 {
			continue
		}
		if recent(e.Exposed) {
			share, _ := e.Share()
			add(Finding{Code: "PB1511", Subject: e.Service, Cause: fmt.Sprintf("%s calls it, and not every connection is TLS 1.3", e.Workload),
				Evidence: []string{fmt.Sprintf("%d in plain text, %d with older TLS, %d with TLS 1.3 (%.1f %%), the last of the former at %s", e.Plain, e.TLSOlder, e.TLS13, 100*share, e.Exposed.UTC().Format(time.RFC3339))},
				Fix:      []string{"patchbay verify " + e.Service + "    (which endpoints speak what)", "deploy the tasks that offer it without tls again, with it, then lock the service to TLS"}})
		}
		if recent(e.Distrusted) {
			x := Finding{Code: "PB1208", Subject: e.Service, Cause: fmt.Sprintf("the sidecars of %s broke off handshakes because of its certificate", e.Workload),
				Evidence: []string{fmt.Sprintf("%s, the last at %s", count.Of(e.Unverified, "handshake"), e.Distrusted.UTC().Format(time.RFC3339))},
				Fix:      []string{"patchbay explain " + e.Workload + " " + callURL(f.Status, e.Service) + " --live    (says what is wrong with it)"}}
			if len(f.Status.Services[i].External) > 0 {
				x.Fix = append(x.Fix, OutsideTLSFix)
			}
			add(x)
		}
	}
	for _, i := range f.Traffic.Ingresses {
		if recent(i.DeniedAt) {
			cause := "somebody calls it whom no rule of its authorization allows"
			if i.Denied == 0 {
				cause += "; a dry run lets them pass"
			}
			add(Finding{Code: "PB1512", Subject: i.Workload, Cause: cause,
				Evidence: []string{fmt.Sprintf("%d calls denied, %d that a dry run would have denied, since its Envoys started; the last at %s", i.Denied, i.WouldDeny, i.DeniedAt.UTC().Format(time.RFC3339))},
				Fix:      []string{"look into the log of the task's sidecar: a line with \"authorization\" for each says who called, what and when", "patchbay explain CALLER URL    (says which rules there are)"}})
		}
		if recent(i.Knocked) {
			add(Finding{Code: "PB1509", Subject: i.Workload, Cause: "somebody connects to its ingress port, but not with TLS 1.3; the port refuses",
				Evidence: []string{fmt.Sprintf("refused since its Envoys started: %s, the last at %s", count.Of(i.Refused, "handshake"), i.Knocked.UTC().Format(time.RFC3339))},
				Fix: []string{
					"a load balancer in front of it: HTTPS target group, a listener policy with TLS 1.3; on a Network Load Balancer a TCP health check",
					"a client that is no task of the mesh: give it a sidecar, or have it speak TLS 1.3",
				}})
		}
	}
}

// Inward reports whether the Envoy of a task has resolved a target outside the
// mesh to virtual IPs of the mesh.
func Inward(node string, s api.Service, hosts []api.TaskHost) (Finding, bool) {
	var inward []string
	for _, h := range hosts {
		if a, err := netip.ParseAddrPort(h.Address); err == nil && (mesh.LiveVIPs.Contains(a.Addr()) || mesh.StrictVIPs.Contains(a.Addr())) {
			inward = append(inward, h.Address)
		}
	}
	if len(s.External) == 0 || len(inward) == 0 {
		return Finding{}, false
	}
	return Complete(Finding{Code: "PB1514", Subject: s.Name, Cause: "in the task of " + node + ", " + strings.Join(s.External, ", ") + " resolves to " + strings.Join(inward, ", "),
		Evidence: []string{mesh.LiveVIPs.Masked().String() + " and " + mesh.StrictVIPs.String() + " are virtual IPs, which lead back to its own sidecar"},
		Fix:      []string{"getent hosts NAME    (in the task: its hosts file, then its resolver)", "name a host that is outside in `external` of the control plane's file, or mend the name's record"}}), true
}

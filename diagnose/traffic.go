package diagnose

import (
	"fmt"
	"slices"
	"time"

	"patchbay/admin/api"
)

// lately is how long something that was counted is a finding: agents count
// every five seconds, and what was mended is soon over.
const lately = 2 * time.Minute

// checkTraffic judges what the sidecars' own counters say of encryption.
func checkTraffic(f *Facts, add func(Finding)) {
	if f.Status == nil || f.Traffic == nil {
		return
	}
	recent := func(at time.Time) bool { return !at.IsZero() && f.Status.At.Sub(at) < lately }
	for _, e := range f.Traffic.Edges {
		i := slices.IndexFunc(f.Status.Services, func(s api.Service) bool { return s.Name == e.Service && s.TLS != nil })
		if i < 0 {
			continue
		}
		if recent(e.Exposed) {
			share, _ := e.Share()
			add(Finding{Code: "PB1511", Subject: e.Service, Cause: fmt.Sprintf("%s calls it, and not every connection is TLS 1.3", e.Workload),
				Evidence: []string{
					fmt.Sprintf("%d in plain text, %d with older TLS, %d with TLS 1.3 (%.1f %%), the last of the former at %s", e.Plain, e.TLSOlder, e.TLS13, 100*share, e.Exposed.UTC().Format(time.RFC3339)),
				},
				Fix: []string{"patchbay verify " + e.Service + "    (which endpoints speak what)", "deploy the tasks that offer it without tls again, with it, then lock the service to TLS"}})
		}
		if recent(e.Distrusted) {
			add(Finding{Code: "PB1208", Subject: e.Service, Cause: fmt.Sprintf("the sidecars of %s broke off handshakes because of its certificate", e.Workload),
				Evidence: []string{fmt.Sprintf("%d handshakes, the last at %s", e.Unverified, e.Distrusted.UTC().Format(time.RFC3339))},
				Fix:      []string{"patchbay explain " + e.Workload + " http://" + e.Service + " --live    (says what is wrong with it)"}})
		}
	}
	for _, i := range f.Traffic.Ingresses {
		if recent(i.Knocked) {
			add(Finding{Code: "PB1509", Subject: i.Workload, Cause: "somebody connects to its ingress port, but not with TLS 1.3; the port refuses",
				Evidence: []string{fmt.Sprintf("%d handshakes were refused since its Envoys started, the last at %s", i.Refused, i.Knocked.UTC().Format(time.RFC3339))},
				Fix: []string{
					"a load balancer in front of it: HTTPS target group, a listener policy with TLS 1.3; on a Network Load Balancer a TCP health check",
					"a client that is no task of the mesh: give it a sidecar, or have it speak TLS 1.3",
				}})
		}
	}
}

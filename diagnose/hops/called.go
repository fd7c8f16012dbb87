package hops

import (
	"fmt"
	"strings"

	"patchbay/agentapi"
	"patchbay/diagnose"
)

// Called adds what a real call showed: it may fail although every hop looks
// right, or say more of the hop that fails. Counts are how much the client's
// statistics grew meanwhile.
func Called(w *Walk, c agentapi.Outcome, counts map[string]uint64) {
	said := c.Error
	if c.Envoy {
		said = fmt.Sprintf("%d: %s", c.Status, strings.TrimSpace(c.Body))
	}
	if said == "" {
		if w.Finding == nil && c.Status >= 500 {
			w.Finding = &diagnose.Finding{Code: "PB1506", Severity: diagnose.Warning, Subject: w.Service, Title: diagnose.Title("PB1506"),
				Cause: fmt.Sprintf("its application answered %d", c.Status), Evidence: []string{}, Fix: []string{"look at the application's log"}}
		}
		return
	}
	if w.Finding == nil {
		distrusted(w, counts)
	}
	if w.Finding != nil {
		w.Finding.Evidence = append(w.Finding.Evidence, "a real call: "+said)
		return
	}
	x := diagnose.Finding{Code: "PB1605", Subject: w.Service, Cause: said, Evidence: []string{}, Fix: []string{"patchbay verify " + w.Service, "patchbay doctor"}}
	if len(w.External) > 0 {
		x.Fix = []string{"look from the client's machine whether " + strings.Join(w.External, ", ") + " answers, and at the firewalls between", "compare `external` in the control plane's file: hosts, port, tls"}
	}
	switch {
	case strings.Contains(said, "RBAC"):
		x.Code, x.Fix = "PB1510", []string{"allow the client's workload in the service's authorization, or call from one that may"}
	case strings.Contains(said, "local_rate_limited"):
		x.Cause, x.Fix = "more requests come than its rateLimit lets through: "+said, []string{"raise rateLimit in the policy of " + w.Service + ", run more of its tasks, each of which counts for itself, or call it less"}
	case strings.Contains(said, "CERTIFICATE_VERIFY_FAILED"):
		x.Code = "PB1208"
		if strings.Contains(said, "SAN") {
			x.Code = "PB1209"
		}
	case strings.Contains(said, "TLS_error"), strings.Contains(said, "SSL routines"):
		x.Code = "PB1504"
	case strings.Contains(said, "request timeout"), strings.Contains(said, "deadline exceeded"):
		x.Code, x.Fix = "PB1507", []string{"look at the application's log: it took the request and did not answer in time", "raise perRequestTimeoutSeconds if that is how long it takes"}
	case strings.Contains(said, "connection refused"), strings.Contains(said, "connection failure"), strings.Contains(said, "connection timeout"):
		x.Code = "PB1503"
	}
	x = diagnose.Complete(x)
	w.Finding = &x
}

package diagnose

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"patchbay/admin/api"
	"patchbay/internal/count"
)

// refusals are the words of a CA that answers, but not with a certificate.
var refusals = regexp.MustCompile(`(?i)unauthori[sz]ed|forbidden|not allowed|denied|bad request|invalid|unknown|not found|provisioner|password|fingerprint|decrypt|\b40[0-9]\b`)

func checkIssuers(f *Facts, add func(Finding)) {
	if f.Status == nil {
		return
	}
	for _, i := range f.Status.Issuers {
		if i.LastError == "" {
			continue
		}
		seen := "it has never answered since the control plane started"
		if !i.LastSeen.IsZero() {
			seen = "last answer at " + i.LastSeen.UTC().Format(time.RFC3339)
		}
		add(IssuerError("issuer "+i.Name, i.LastError, seen))
	}
}

// IssuerError is the finding about words of a CA.
func IssuerError(subject, text string, evidence ...string) Finding {
	if denied.MatchString(text) {
		x := registryError(subject, text, evidence...)
		x.Fix = []string{"allow the action to the role of patchbay serve (deploy/ has the least that it needs)"}
		return x
	}
	if refusals.MatchString(text) && !unreachable.MatchString(text) {
		return Finding{Code: "PB1202", Subject: subject, Cause: text, Evidence: evidence, Fix: []string{
			"hold the issuer's fingerprint, provisioner and password file in the configuration against the CA's",
			"step ca provisioner list --ca-url URL --root ROOT    (what the CA has)",
		}}
	}
	return Finding{Code: "PB1201", Subject: subject, Cause: text, Evidence: append(evidence, "certificates that were issued stay in use until they end"), Fix: []string{
		"start the CA, or correct the issuer's url in the configuration",
		"curl -k URL/health    (from the control plane's machine)",
	}}
}

var unreachable = regexp.MustCompile(`(?i)connection refused|no such host|timeout|timed out|deadline|unreachable|no route|EOF|reset`)

func checkCertificates(f *Facts, add func(Finding)) {
	if f.Status == nil {
		return
	}
	st := f.Status
	var issuers []string
	ill := map[string]bool{}
	for _, i := range st.Issuers {
		issuers = append(issuers, i.Name)
		ill[i.Name] = i.LastError != ""
	}
	offered := offers(st)
	for _, s := range st.Services {
		if t := s.TLS; t != nil && len(s.External) == 0 { // else it is not ours to issue
			certificate(s, len(offered[s.Name]) > 0, issuers, ill[t.Issuer], st.At, add)
		}
	}
	for _, c := range st.Callers {
		caller(c, issuers, ill[c.TLS.Issuer], st.At, add)
	}
}

// caller judges the certificate that a workload calls with as a service's,
// but for its absence: that is worse for others than for itself.
func caller(c api.Caller, issuers []string, illCA bool, now time.Time, add func(Finding)) {
	t := c.TLS
	s := api.Service{Name: "workload " + c.Workload, TLS: &t}
	certificate(s, true, issuers, illCA, now, func(x Finding) {
		if x.Code == "PB1203" || x.Code == "PB1207" {
			x.Code = "PB1210"
			x.Evidence = append(x.Evidence, "services that require one refuse it")
		}
		if x.Code == "PB1204" {
			x.Fix = []string{"bring the CA back: the control plane renews by itself"}
		}
		add(x)
	})
}

// unstored are the words of a secret store: before anything is asked of a CA, the
// key for it must be kept.
var unstored = regexp.MustCompile(`\bsecret\([^)]* generation \d+\)`)

// storesAgain has findings about a certificate say that the secret store is what
// keeps it from being issued.
func storesAgain(add func(Finding)) func(Finding) {
	return func(x Finding) {
		if slices.Contains([]string{"PB1203", "PB1204", "PB1205"}, x.Code) {
			x.Cause = "its key can't be kept in the secret store, and before that nothing is asked of the CA"
			x.Fix = []string{"make room in the secret store (the data directory, or what `secrets` of the configuration names), or let the control plane write to it: it tries again by itself"}
		}
		add(x)
	}
}

func certificate(s api.Service, offered bool, issuers []string, illCA bool, now time.Time, add func(Finding)) {
	t := s.TLS
	evidence := []string{"issuer " + t.Issuer}
	if t.Serial != "" {
		evidence = append(evidence, "serial "+t.Serial+", until "+t.NotAfter.UTC().Format(time.RFC3339))
	}
	if t.LastError != "" {
		evidence = append(evidence, count.Of(t.Failures, "failed attempt")+"; the last: "+t.LastError)
	}
	known := slices.Contains(issuers, t.Issuer)
	if unstored.MatchString(t.LastError) && !denied.MatchString(t.LastError) {
		add, illCA = storesAgain(add), true // another's fault
	}
	if known && t.LastError != "" && !illCA {
		add(IssuerError("issuer "+t.Issuer, t.LastError, s.Name+" asked"))
		illCA = true
	}
	switch {
	case !known:
		add(Finding{Code: "PB1207", Subject: s.Name, Cause: fmt.Sprintf("its issuer is %q; configured are %q", t.Issuer, issuers), Evidence: evidence,
			Fix: []string{"add the issuer to `issuers` in the control plane's configuration, or declare one of these as awsPcaAuthorityArn"}})
	case t.Serial == "" && (offered || Total(s.Endpoints) > 0 || t.LastError != ""):
		add(Finding{Code: "PB1203", Subject: s.Name, Cause: caOr(illCA, "none was issued"), Evidence: evidence,
			Fix: []string{"the control plane tries again by itself as soon as the CA answers"}})
	case t.Serial == "":
	case t.OnPurpose:
		add(onPurpose(s, evidence, now))
	case now.After(t.NotAfter):
		add(Finding{Code: "PB1204", Subject: s.Name, Cause: caOr(illCA, "it was not renewed in time"), Evidence: evidence,
			Fix: []string{"curl -X POST -H \"Authorization: Bearer TOKEN\" ADMIN/api/v1/rotate?service=" + s.Name + "    (once the CA answers)"}})
	case t.Alarm:
		add(Finding{Code: "PB1205", Subject: s.Name, Severity: Error, Cause: caOr(illCA, "less than a tenth of its life is left and it is not renewed"), Evidence: evidence,
			Fix: []string{"bring the CA back: the control plane renews by itself"}})
	case t.LastError != "":
		add(Finding{Code: "PB1205", Subject: s.Name, Cause: caOr(illCA, "its renewal failed"), Evidence: evidence, Fix: []string{"the control plane tries again by itself"}})
	}
	if t.NotStored != "" {
		fix := "make room in, or give the control plane's user write access to, its data directory"
		if strings.Contains(t.NotStored, "another key") {
			fix = "bring back the secrets.key that belongs to the data directory, or move DATA/secrets away: certificates are then asked of the CA anew"
		}
		add(Finding{Code: "PB1206", Subject: s.Name, Cause: t.NotStored, Evidence: evidence, Fix: []string{fix}})
	}
}

// onPurpose is about a certificate that somebody lets expire.
func onPurpose(s api.Service, evidence []string, now time.Time) Finding {
	x := Finding{Code: "PB1204", Subject: s.Name, Cause: onPurposeCause, Evidence: evidence, Fix: []string{onPurposeFix}}
	if !now.After(s.TLS.NotAfter) {
		x.Code, x.Cause = "PB1205", "it is about to end: "+onPurposeCause
	}
	return x
}

const (
	onPurposeCause = "somebody has it expire on purpose (patchbay fault expire)"
	onPurposeFix   = "nothing: its own certificate comes back when that command ends"
)

func caOr(illCA bool, otherwise string) string {
	if illCA {
		return "the CA gives none: see the finding about its issuer"
	}
	return otherwise
}

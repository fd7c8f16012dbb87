package diagnose

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"patchbay/admin/api"
	"patchbay/internal/count"
)

const (
	// skewMost is what clocks may differ unsaid: certificates are backdated by
	// minutes, but one clock that drifts is the usual cause of "not yet valid".
	skewMost = 30 * time.Second
	// budgetLeast is the least time that an operator should have to bring a CA
	// back.
	budgetLeast = 5 * time.Minute
)

func checkControl(f *Facts, add func(Finding)) {
	switch {
	case f.Denied != "":
		add(Finding{Code: "PB1002", Subject: f.Address, Cause: f.Denied, Fix: []string{
			"patchbay doctor --token-file DATA/admin-token    (DATA is `data` of the control plane's configuration)",
			"or on the control plane's machine: patchbay doctor --admin unix:DATA/admin.sock",
		}})
	case f.Unreachable != "":
		add(Finding{Code: "PB1001", Subject: f.Address, Cause: f.Unreachable,
			Evidence: []string{"Envoys keep the configuration that they have; nothing new reaches them."},
			Fix: []string{
				"patchbay serve --config patchbay.yaml    (if it does not run)",
				"patchbay doctor --admin ADDRESS    (if it runs elsewhere: http://HOST:PORT, or unix:DATA/admin.sock)",
			}})
	}
	if f.Status == nil {
		return
	}
	st := f.Status
	if skew := f.Now.Sub(st.At); f.Unreachable == "" && (skew > skewMost || skew < -skewMost) {
		add(Finding{Code: "PB1008", Subject: "control plane " + st.Replica,
			Cause:    fmt.Sprintf("the control plane's clock is %s %s this machine's", span(skew), map[bool]string{true: "behind", false: "ahead of"}[skew > 0]),
			Evidence: []string{"there it is " + st.At.UTC().Format(time.RFC3339) + ", here " + f.Now.UTC().Format(time.RFC3339)},
			Fix:      []string{"timedatectl set-ntp true    (on the machine whose clock is wrong)"}})
	}
	if !st.Ready {
		add(Finding{Code: "PB1003", Subject: "control plane " + st.Replica, Cause: "it waits: " + strings.Join(st.Reasons, "; "),
			Evidence: st.Reasons, Fix: []string{"the findings above name what it waits for; without any, look at the log of patchbay serve"}})
	}
	if st.SurvivableSeconds != nil && *st.SurvivableSeconds < budgetLeast.Seconds() && *st.SurvivableSeconds > 0 {
		add(Finding{Code: "PB1007", Subject: "control plane " + st.Replica,
			Cause:    "the certificate that ends first ends in " + seconds(*st.SurvivableSeconds),
			Evidence: soonest(st.Services),
			Fix:      []string{"bring the CA back, or give certificates a longer life: issuers.NAME.stepCA.lifetime"}})
	}
}

func soonest(all []api.Service) []string {
	var first *api.Service
	for i, s := range all {
		if s.TLS != nil && !s.TLS.NotAfter.IsZero() && (first == nil || s.TLS.NotAfter.Before(first.TLS.NotAfter)) {
			first = &all[i]
		}
	}
	if first == nil {
		return nil
	}
	return []string{first.Name + ": until " + first.TLS.NotAfter.UTC().Format(time.RFC3339)}
}

var (
	throttled = regexp.MustCompile(`(?i)throttl|too many requests|RequestLimitExceeded|rate exceeded|\b429\b`)
	denied    = regexp.MustCompile(`(?i)AccessDenied|not authorized to perform|UnauthorizedOperation|\bmay not [a-z0-9-]+:[A-Z]`)
	action    = regexp.MustCompile(`(?:not authorized to perform:? ?|\bmay not )([a-z0-9-]+:[A-Za-z]+)(?:.* allows it: (\{.*\}))?`)
)

// several is what discovery says where a name means more than one namespace.
var several = regexp.MustCompile(`namespaces have the HttpName .*say which is meant`)

// registryError is a finding about words of the registry.
func registryError(subject, text string, evidence ...string) Finding {
	switch {
	case several.MatchString(text):
		return Finding{Code: "PB1109", Subject: subject, Cause: text, Evidence: evidence,
			Fix: []string{"write the ARN of the one that is meant into the control plane's file: cloudMap: {namespaces: {" + strings.TrimPrefix(subject, "namespace ") + ": ARN}}, and start it again"}}
	case denied.MatchString(text):
		what := "the registry refuses a call"
		fix := "allow the role of patchbay serve what deploy/ lists for discovery and registration"
		if m := action.FindStringSubmatch(text); m != nil {
			what, fix = "the role may not "+m[1], "allow "+m[1]+" to the role of patchbay serve"
			if m[2] != "" {
				fix += ", with this statement in its policy: " + m[2]
			}
		}
		return Finding{Code: "PB1006", Subject: subject, Cause: what, Evidence: append([]string{text}, evidence...), Fix: []string{fix}}
	case throttled.MatchString(text):
		return Finding{Code: "PB1005", Subject: subject, Cause: "the registry answers that there are too many calls", Evidence: append([]string{text}, evidence...),
			Fix: []string{"find who else calls Cloud Map in this account and region; what is known stays meanwhile"}}
	}
	return Finding{Code: "PB1004", Subject: subject, Cause: text, Evidence: evidence,
		Fix: []string{"look at the registry: its address, its log, and whether a firewall is between; what is known stays meanwhile"}}
}

func checkRegistry(f *Facts, add func(Finding)) {
	if f.Status == nil {
		return
	}
	ill := map[string]bool{} // namespaces whose listing fails: their services need no finding of their own
	for _, n := range f.Status.Namespaces {
		if n.Error == "" {
			continue
		}
		ill[n.Name] = true
		since := "it has never been read"
		if !n.Listed.IsZero() {
			since = "last read completely at " + n.Listed.UTC().Format(time.RFC3339)
		}
		add(registryError("namespace "+n.Name, n.Error, since))
	}
	offered := offers(f.Status)
	for _, s := range f.Status.Services {
		if deleted(s) {
			if n := len(offered[s.Name]); n > 0 {
				add(Finding{Code: "PB1010", Subject: s.Name, Cause: "the registry no longer has it, in spite of " + count.Of(n, "connected task") + " to offer it", Evidence: offered[s.Name],
					Fix: []string{"restart one task that offers it: the control plane then writes the service again", "find out who deleted it: Cloud Map's DeleteService in CloudTrail, or the registry's log"}})
			}
			continue // its end is being confirmed: it goes by itself
		}
		if s.Error != "" && !ill[NamespaceOf(s.Name)] {
			add(registryError(s.Name, s.Error, "what is shown is "+s.Source))
		}
		if s.Held > 0 {
			add(Finding{Code: "PB1009", Subject: s.Name,
				Cause:    count.Of(s.Held, "endpoint") + " vanished from the registry at once, without a word: what is shown stays until that is confirmed",
				Evidence: []string{"shown: " + count.Of(Total(s.Endpoints), "endpoint")},
				Fix:      []string{"if they were stopped, wait: a second answer confirms it; if not, look who changed the registry"}})
		}
	}
}

var gone = regexp.MustCompile(`\bServiceNotFound\b`)

// deleted reports whether the registry says that it has no such service.
func deleted(s api.Service) bool { return gone.MatchString(s.Error) || gone.MatchString(s.Settings) }

// NamespaceOf is the namespace in discoveryName.namespace.
func NamespaceOf(service string) string {
	_, ns, _ := strings.Cut(service, ".")
	return ns
}

// Total adds up counts.
func Total(m map[string]int) int {
	n := 0
	for _, k := range m {
		n += k
	}
	return n
}

// span is a duration's size for people.
func span(d time.Duration) string {
	if d < 0 {
		d = -d
	}
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	case d >= 2*time.Minute:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d >= 2*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

func seconds(s float64) string { return span(time.Duration(s * float64(time.Second))) }

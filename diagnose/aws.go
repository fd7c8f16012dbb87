package diagnose

import (
	"maps"
	"slices"
	"strings"
	"time"

	"patchbay/admin/api"
	"patchbay/internal/count"
)

// disagree is how long replicas may have different content: what one has read
// the others read within seconds.
const disagree = 30 * time.Second

// checkAWS judges what came of trying the control plane's calls.
func checkAWS(f *Facts, add func(Finding)) {
	if f.AWS == nil {
		return
	}
	for _, c := range f.AWS.Calls {
		evidence := []string{c.Action + " on " + c.Resource + ": " + c.Detail}
		switch c.Outcome {
		case api.Refused:
			fix := "take out the statement that denies " + c.Action + ": a policy of the role, a permissions boundary or a service control policy"
			if c.Statement != "" {
				fix = "add to the policy of the role of patchbay serve: " + c.Statement
			}
			add(Finding{Code: "PB1006", Subject: c.Action, Cause: "the role of patchbay serve may not call it", Evidence: evidence, Fix: []string{fix}})
		case api.Throttled:
			add(Finding{Code: "PB1005", Subject: c.Action, Cause: "AWS answers that there are too many calls", Evidence: evidence,
				Fix: []string{"find who else calls it in this account and region; what is known stays meanwhile"}})
		case api.Failed:
			add(Finding{Code: "PB1011", Subject: service(c.Action), Cause: c.Detail, Evidence: []string{c.Action + " on " + c.Resource},
				Fix: []string{"look at the control plane's credentials, its region, and the way to AWS: a NAT gateway or a VPC endpoint of the service"}})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.AWS.Names)) {
		if why := f.AWS.Names[name]; why != "" {
			fix := "look at the resolver of the control plane's machine"
			if strings.HasPrefix(name, "data-") {
				fix = "in a VPC without a way to the internet make both endpoints, com.amazonaws.REGION.servicediscovery and com.amazonaws.REGION.data-servicediscovery, with private DNS"
			}
			add(Finding{Code: "PB1011", Subject: name, Cause: "the name can't be found: " + why, Evidence: []string{"the registry is called under this name"}, Fix: []string{fix}})
		}
	}
}

// service is the part of an action before the colon.
func service(action string) string {
	s, _, _ := strings.Cut(action, ":")
	return s
}

func seenAWS(a *api.AWS) string {
	var untried []string
	tried := 0
	for _, c := range a.Calls {
		if c.Outcome == api.Untried {
			untried = append(untried, c.Action)
		} else {
			tried++
		}
	}
	text := count.Of(tried, "call") + " tried"
	if len(untried) > 0 {
		text += "; not tried, since it would change something: " + strings.Join(untried, ", ")
	}
	return text
}

// checkReplicas judges what replicas say of each other.
func checkReplicas(f *Facts, add func(Finding)) {
	if f.Status == nil {
		return
	}
	for _, p := range f.Status.Replicas {
		switch age := f.Status.At.Sub(p.Since); {
		case !p.Heard && age > disagree:
			add(Finding{Code: "PB1013", Subject: "replica " + p.Address, Cause: "it is written down in the registry, and has not been heard for " + span(age), Evidence: []string{"replica " + f.Status.Replica + " asks for everything itself meanwhile"},
				Fix: []string{"if it was stopped for good, wait: after ten minutes it is taken out; if not, look whether it runs, and whether port and firewall let the replicas reach each other (replicas.listen)"}})
		case p.Heard && !p.Differs.IsZero() && f.Status.At.Sub(p.Differs) > disagree:
			add(Finding{Code: "PB1012", Subject: "replica " + p.Address, Cause: "it has served other services or endpoints than replica " + f.Status.Replica + " for " + span(f.Status.At.Sub(p.Differs)),
				Evidence: []string{"content here " + f.Status.Content + ", there " + p.Content},
				Fix:      []string{"patchbay status --admin ADDRESS    (of each: a namespace or a service that one can't read has an error, or is last-known-good)", "look whether both have the same namespaces in their configuration, and the same registry"}})
		}
	}
}

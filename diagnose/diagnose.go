// Package diagnose says what is wrong with a mesh, why, and what to do.
//
// It owns the findings: their codes, their order and their words. A diagnosis
// is a pure function of [Facts], so that one made from an archive of facts
// equals one made on the spot. It must not know how facts are gathered, nor
// keys: no fact has room for one. Start reading at [Check], then codes.go.
package diagnose

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"patchbay/admin/api"
	"patchbay/diagnose/verify"
	"patchbay/mesh/policy"
)

// Severity of a finding.
type Severity string

// Errors fail requests or will; warnings take away a margin.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is one thing that is wrong.
type Finding struct {
	Code     string   `json:"code"` // stable, with a page of its own: docs/doctor/CODE.md
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"`  // the sidecar, service, issuer, … that it is about
	Title    string   `json:"title"`    // what is wrong
	Cause    string   `json:"cause"`    // why
	Evidence []string `json:"evidence"` // where that was seen, in the words of the part that said it
	Fix      []string `json:"fix"`      // commands or changes
}

// Facts are what a diagnosis is made from. What is absent was not looked at.
type Facts struct {
	Now time.Time `json:"now"` // by the clock of whoever gathered them
	// Unreachable says why the control plane did not answer; Address is where
	// it was asked.
	Address     string      `json:"address"`
	Unreachable string      `json:"unreachable,omitempty"`
	Denied      string      `json:"denied,omitempty"`
	Status      *api.Status `json:"status,omitempty"`
	// Traffic is what the sidecars count.
	Traffic *api.Traffic `json:"traffic,omitempty"`
	// Policy is what holds for the one call that is asked about.
	Policy []policy.Word `json:"policy,omitempty"`
	// AWS is what came of trying the control plane's calls of AWS.
	AWS *api.AWS `json:"aws,omitempty"`
	// Balancers are load balancers, as definitions of tasks show them, that do
	// not fit the mesh.
	Balancers []Balancer `json:"balancers,omitempty"`
	// Tasks are what sidecars have, by node id.
	Tasks map[string]*api.Task `json:"tasks,omitempty"`
	// Details are services with their endpoints, by name.
	Details map[string]*api.ServiceDetail `json:"details,omitempty"`
	// Ports are the outcomes of handshakes with endpoints, by IP:port.
	Ports map[string]verify.Endpoint `json:"ports,omitempty"`
}

// Balancer is what is wrong with a load balancer in front of a service.
type Balancer struct {
	Where string `json:"where"` // file and path
	Text  string `json:"text"`  // what is wrong; "; allowed: " begins what is not
}

// check adds the findings of one area.
type check func(f *Facts, add func(Finding))

// Check lists what is wrong, the likely root causes first. A healthy mesh has
// none.
func Check(f *Facts) []Finding {
	out := []Finding{}
	add := func(x Finding) {
		out = append(out, Complete(x))
	}
	for _, c := range []check{checkControl, checkRegistry, checkAWS, checkReplicas, checkIssuers, checkCertificates, checkConfiguration, checkBalancers, checkSidecars, checkTasks, checkServices, checkTraffic} {
		c(f, add)
	}
	out = merged(out)
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Code, b.Code), strings.Compare(a.Subject, b.Subject))
	})
	return out
}

// Complete gives a finding what all of its code have in common.
func Complete(x Finding) Finding {
	c := codes[x.Code]
	x.Severity, x.Title = cmp.Or(x.Severity, c.severity), cmp.Or(x.Title, c.title)
	x.Evidence, x.Fix = append([]string{}, x.Evidence...), append([]string{}, x.Fix...)
	return x
}

// merged makes findings of one code and subject one, with all evidence.
func merged(all []Finding) []Finding {
	out := []Finding{}
	for _, f := range all {
		i := slices.IndexFunc(out, func(o Finding) bool { return o.Code == f.Code && o.Subject == f.Subject })
		if i < 0 {
			out = append(out, f)
			continue
		}
		o := &out[i]
		if f.Cause != o.Cause {
			o.Evidence = append(o.Evidence, f.Cause)
		}
		for _, e := range f.Evidence {
			if !slices.Contains(o.Evidence, e) {
				o.Evidence = append(o.Evidence, e)
			}
		}
	}
	return out
}

// rank orders findings: errors before warnings, causes before consequences.
func rank(f Finding) int {
	n := codes[f.Code].rank
	if f.Severity != Error {
		n += 1000
	}
	return n
}

// Concerning are the findings about what a status shows.
func Concerning(all []Finding, st *api.Status) []Finding {
	out := []Finding{}
	for _, s := range st.Sidecars {
		out = append(out, About(all, s.Node)...)
	}
	for _, s := range st.Services {
		out = append(out, About(all, s.Name)...)
	}
	return out
}

// About are the findings of one subject, in their order.
func About(all []Finding, subject string) []Finding {
	var out []Finding
	for _, f := range all {
		if f.Subject == subject {
			out = append(out, f)
		}
	}
	return out
}

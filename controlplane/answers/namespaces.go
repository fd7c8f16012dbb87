package answers

import (
	"time"

	"patchbay/discovery"
	"patchbay/pki"
)

// What GET /api/v1/namespaces and /certificates answer. The forms are a
// contract (docs/reference/admin.md): a field may be added, none changes its
// meaning.
type (
	// Namespace is what is known of one.
	Namespace struct {
		Name      string            `json:"name"`
		Synced    bool              `json:"synced"`          // its sidecars are answered
		Waiting   []string          `json:"waiting"`         // why not
		Stale     bool              `json:"stale"`           // the newest listing failed
		Watched   bool              `json:"watched"`         // changes are announced, not polled for
		Listed    time.Time         `json:"listed,omitzero"` // newest complete listing
		Error     string            `json:"error,omitempty"` // of the newest listing
		Rejected  map[string]string `json:"rejected"`        // service of the registry → why it can't be used
		Conflicts []Conflict        `json:"conflicts"`       // aliases that two services claim
		Services  []Service         `json:"services"`
	}
	// Conflict is an alias that two services claim.
	Conflict struct {
		Alias  string `json:"alias"`
		Port   uint16 `json:"port"`
		Winner string `json:"winner"`
		Loser  string `json:"loser"`
	}
	// Service is what is known of one in the registry.
	Service struct {
		Name       string         `json:"name"` // discoveryName.namespace
		ARN        string         `json:"arn"`
		Source     string         `json:"source"`               // live, last-known-good, waiting, unfinished
		AgeSeconds *float64       `json:"ageSeconds,omitempty"` // since the registry last answered for it; absent: not since the start
		Revision   int64          `json:"revision"`
		Endpoints  int            `json:"endpoints"`
		Held       int            `json:"held"`    // shown although the newest answer lacks them
		Leaving    []string       `json:"leaving"` // instances that announced their end
		Skipped    map[string]int `json:"skipped"` // reason → instances left out
		Error      string         `json:"error,omitempty"`
		Settings   string         `json:"settings,omitempty"` // what is wrong with its settings
	}
	// Certificates are those of services, and who issues them.
	Certificates struct {
		SurvivableSeconds *float64      `json:"survivableSeconds,omitempty"` // without any CA; absent: no service has TLS
		Services          []Certificate `json:"services"`
		Issuers           []Issuer      `json:"issuers"`
	}
	// Certificate is one of a service.
	Certificate struct {
		Service   string    `json:"service"`
		Issuer    string    `json:"issuer"`
		Names     []string  `json:"names"`
		Serial    string    `json:"serial,omitempty"`
		IssuedAt  time.Time `json:"issuedAt,omitzero"`
		NotAfter  time.Time `json:"notAfter,omitzero"`
		NextTry   time.Time `json:"nextTry,omitzero"`
		Failures  int       `json:"failures"`
		LastError string    `json:"lastError,omitempty"`
		ErrorAt   time.Time `json:"errorAt,omitzero"`
		Alarm     bool      `json:"alarm"` // less than a tenth of its life is left
		NotStored string    `json:"notStored,omitempty"`
	}
	// Issuer is one of the configuration.
	Issuer struct {
		Name      string    `json:"name"`
		Roots     int       `json:"roots"`
		Retiring  int       `json:"retiring"`
		Phase     string    `json:"phase"`   // of its roots: steady, announced, switching, retiring
		Older     int       `json:"older"`   // certificates in use that an older root signed
		Unacked   []string  `json:"unacked"` // connected nodes that have not accepted its roots
		LastSeen  time.Time `json:"lastSeen,omitzero"`
		LastError string    `json:"lastError,omitempty"`
		ErrorAt   time.Time `json:"errorAt,omitzero"`
	}
)

func namespacesAnswer(all []discovery.NamespaceStatus) []Namespace {
	out := make([]Namespace, 0, len(all))
	for _, n := range all {
		a := Namespace{
			Name: n.Name, Synced: n.Synced, Waiting: list(n.Waiting), Stale: n.Stale, Watched: n.Watched, Listed: n.Listed, Error: n.Error,
			Rejected: n.Rejected, Conflicts: []Conflict{}, Services: make([]Service, 0, len(n.Services)),
		}
		for _, c := range n.Conflicts {
			a.Conflicts = append(a.Conflicts, Conflict{c.Alias.DNSName, c.Alias.Port, c.Winner.String(), c.Loser.String()})
		}
		for _, s := range n.Services {
			one := Service{
				Name: s.Name.String(), ARN: s.ARN, Source: s.Source, Revision: s.Revision, Endpoints: s.Endpoints, Held: s.Held,
				Leaving: list(s.Leaving), Skipped: s.Skipped, Error: s.Error, Settings: s.Settings,
			}
			if s.Age >= 0 {
				one.AgeSeconds = new(s.Age.Seconds())
			}
			a.Services = append(a.Services, one)
		}
		out = append(out, a)
	}
	return out
}

func certificatesAnswer(r *pki.Rotator, now time.Time) Certificates {
	st := r.Status()
	a := Certificates{Services: make([]Certificate, 0, len(st.Services)), Issuers: make([]Issuer, 0, len(st.Issuers))}
	if left, ok := r.Survivable(now); ok {
		a.SurvivableSeconds = new(left.Seconds())
	}
	for _, s := range st.Services {
		a.Services = append(a.Services, Certificate{
			Service: s.Service.String(), Issuer: s.Issuer, Names: list(s.Names), Serial: s.Serial, IssuedAt: s.IssuedAt, NotAfter: s.NotAfter,
			NextTry: s.NextTry, Failures: s.Failures, LastError: s.LastError, ErrorAt: s.ErrorAt, Alarm: s.Alarm, NotStored: s.NotStored,
		})
	}
	for _, i := range st.Issuers {
		a.Issuers = append(a.Issuers, Issuer{Name: i.Name, Roots: i.Roots, Retiring: i.Retiring, Phase: i.Phase, Older: i.Older, Unacked: list(i.Unacked), LastSeen: i.LastSeen, LastError: i.LastError, ErrorAt: i.ErrorAt})
	}
	return a
}

// list is never null in JSON.
func list(s []string) []string { return append([]string{}, s...) }

package pki

import (
	"slices"
	"strings"
	"time"

	"patchbay/mesh"
)

// Status is what a [Rotator] knows at one moment, for people and gauges. It
// holds no key.
type Status struct {
	Services []ServiceStatus // sorted by name
	Issuers  []IssuerStatus  // sorted by name
}

// ServiceStatus is about one service that has TLS.
type ServiceStatus struct {
	Service   mesh.ServiceName
	Issuer    string   // that it should have
	Names     []string // DNS names that its certificate should carry
	Serial    string   // of its leaf; empty: it has none
	IssuedAt  time.Time
	NotAfter  time.Time
	NextTry   time.Time // renewal, or the next attempt after failures; zero: as soon as possible
	Failures  int       // attempts in a row
	LastError string    // empty: none since the last success
	ErrorAt   time.Time
	Alarm     bool   // less than a tenth of the leaf's life is left
	NotStored string // why the leaf would not survive a restart; empty: it would
}

// IssuerStatus is about one configured issuer.
type IssuerStatus struct {
	Name      string
	Roots     int       // in its bundle; 0: nobody can trust it yet
	Retiring  int       // of these, those that it no longer lists
	Phase     string    // of its roots: Steady, Announced, Switching, Retiring
	Older     int       // leaves in use that an older root signed than the newest in use
	Unacked   []string  // connected nodes that have not accepted its newest bundle
	LastSeen  time.Time // its last answer; zero: none in this process
	LastError string    // empty: its last answer was good
	ErrorAt   time.Time
}

// Status lists all services with TLS and all issuers.
func (r *Rotator) Status() Status {
	var st Status
	r.mu.Lock()
	for _, s := range r.services {
		if s.gone {
			continue
		}
		v := ServiceStatus{
			Service: s.name, Issuer: s.want.issuer, Names: slices.Clone(s.want.names),
			NextTry: s.due, Failures: s.tries, LastError: text(s.err), Alarm: s.alarmed, NotStored: text(s.unsaved),
		}
		if s.err != nil {
			v.ErrorAt = s.errAt
		}
		if s.leaf != nil {
			v.Serial, v.IssuedAt, v.NotAfter = s.leaf.Serial, s.leaf.IssuedAt, s.leaf.NotAfter
		}
		st.Services = append(st.Services, v)
	}
	phases := map[string]IssuerStatus{}
	for name, t := range r.trusts {
		v := IssuerStatus{}
		v.Phase, v.Older = r.phase(t)
		phases[name] = v
	}
	r.mu.Unlock()
	slices.SortFunc(st.Services, func(a, b ServiceStatus) int { return a.Service.Compare(b.Service) })
	for _, t := range r.trusts {
		v := t.status()
		v.Phase, v.Older, v.Unacked = phases[t.name].Phase, phases[t.name].Older, r.o.Unacked(t.name)
		st.Issuers = append(st.Issuers, v)
	}
	slices.SortFunc(st.Issuers, func(a, b IssuerStatus) int { return strings.Compare(a.Name, b.Name) })
	return st
}

func (t *trust) status() IssuerStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := IssuerStatus{Name: t.name, Roots: len(t.roots), LastSeen: t.seen, LastError: text(t.err)}
	if t.err != nil {
		v.ErrorAt = t.errAt
	}
	for _, x := range t.roots {
		if !x.Missing.IsZero() {
			v.Retiring++
		}
	}
	return v
}

// Survivable is how long, from now, every service with TLS has a certificate
// that is valid, if no CA ever answers again: the least of what is left of
// them, 0 if one has none. ok is false when no service has TLS.
func (r *Rotator) Survivable(now time.Time) (left time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.services {
		if s.gone {
			continue
		}
		d := max(0, s.notAfter().Sub(now))
		if !ok || d < left {
			left, ok = d, true
		}
	}
	return left, ok
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

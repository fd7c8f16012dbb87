package discovery

import (
	"maps"
	"slices"
	"time"

	"patchbay/mesh"
)

// Where what is shown of a service comes from.
const (
	Live          = "live"            // the newest call was answered
	LastKnownGood = "last-known-good" // it was not; this is from an earlier answer or from disk
	Waiting       = "waiting"         // nothing is known yet
	Unfinished    = "unfinished"      // the registry has it, but not (all of) its settings; it is not shown
)

// NamespaceStatus is what an operator should know of a namespace.
type NamespaceStatus struct {
	Name      string
	Synced    bool              // sidecars of this namespace may be answered
	Waiting   []string          // why not, in words; empty if synced
	Stale     bool              // the newest listing failed, or there was none yet
	Watched   bool              // a watch tells of changes; polling is the safety net
	Listed    time.Time         // newest complete listing; zero: none
	Error     string            // of the newest listing; empty if it went well
	Rejected  map[string]string // services of the registry that can't be used, and why
	Conflicts []mesh.AliasConflict
	Services  []ServiceStatus // sorted by name
}

// ServiceStatus is the same for a service.
type ServiceStatus struct {
	Name      mesh.ServiceName
	ARN       string
	Source    string        // Live, LastKnownGood, Waiting or Unfinished
	Age       time.Duration // since the registry last answered for it; negative: not since the start
	Revision  int64
	Endpoints int // shown
	Held      int // shown although the newest answer lacks them
	Leaving   []string
	Skipped   map[string]int // instances left out, by reason
	Strangers []string       // of a service of ours: instances that patchbay did not register
	Error     string         // why it is not live
	Behind    bool           // another replica has an answer that this one can't get
	Settings  string         // what is wrong with its settings; empty if nothing
}

// Status is a copy of the present state, sorted by name.
func (c *CloudMap) Status() []NamespaceStatus {
	var out []NamespaceStatus
	for _, name := range slices.Sorted(maps.Keys(c.names)) {
		out = append(out, c.names[name].status(time.Now()))
	}
	return out
}

func (n *namespace) status(now time.Time) NamespaceStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := NamespaceStatus{
		Name: n.want.Name, Synced: n.synced, Stale: !n.listed || n.err != nil, Watched: n.watched(),
		Listed: n.listedAt, Error: text(n.err), Rejected: maps.Clone(n.rejected), Conflicts: slices.Clone(n.conflicts),
	}
	for _, name := range slices.Sorted(maps.Keys(n.services)) {
		st.Services = append(st.Services, n.services[name].status(now))
	}
	if n.synced {
		return st
	}
	if !n.listed {
		st.Waiting = append(st.Waiting, "a complete list of the services of "+n.want.Name+": "+orNone(st.Error))
	}
	for _, s := range st.Services {
		if s.Source == Waiting {
			st.Waiting = append(st.Waiting, "the instances and settings of "+s.Name.String()+": "+orNone(s.Error+s.Settings))
		}
	}
	return st
}

func (s *service) status(now time.Time) ServiceStatus {
	st := ServiceStatus{
		Name: s.name, ARN: s.info.ARN, Age: -1, Revision: s.belief.Revision, Held: s.belief.Held,
		Leaving: slices.Sorted(maps.Keys(s.leaving)), Skipped: maps.Clone(s.skipped), Error: text(s.err), Settings: text(s.attrsErr),
	}
	if st.Skipped == nil {
		st.Skipped = map[string]int{}
	}
	for _, reason := range s.malformed {
		st.Skipped[reason]++
	}
	st.Behind = s.behind()
	if !s.answered.IsZero() {
		st.Age = now.Sub(s.answered)
	}
	switch {
	case !s.resolved():
		st.Source = Waiting
	case s.built == nil:
		st.Source = Unfinished
	case s.failures > 0 || s.answered.IsZero():
		st.Source = LastKnownGood
	default:
		st.Source = Live
	}
	if s.built != nil {
		st.Endpoints = len(s.built.Endpoints)
	}
	for _, i := range s.belief.Good {
		if s.settings != nil && i.Owner == "" {
			st.Strangers = append(st.Strangers, i.ID())
		}
	}
	return st
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func orNone(s string) string {
	if s == "" {
		return "no answer yet"
	}
	return s
}

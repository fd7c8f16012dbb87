package shift

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"patchbay/internal/count"
	"patchbay/mesh"
)

// serving is how many endpoints of a revision can be called.
func serving(s *mesh.Service, revision string) (n int) {
	for _, e := range s.Endpoints {
		if e.Revision == revision && e.Health != mesh.Unhealthy {
			n++
		}
	}
	return n
}

// there are the revisions that have endpoints, and how many.
func there(s *mesh.Service) map[string]int {
	out := map[string]int{}
	for _, e := range s.Endpoints {
		if e.Revision != "" {
			out[e.Revision]++
		}
	}
	return out
}

// list says which revisions there are: "blue (2 endpoints), green (1 endpoint,
// none healthy)".
func list(s *mesh.Service) string {
	all := there(s)
	var out []string
	for _, r := range slices.Sorted(maps.Keys(all)) {
		text := count.Of(all[r], "endpoint")
		switch n := serving(s, r); {
		case n == 0:
			text += ", none healthy"
		case n < all[r]:
			text += fmt.Sprintf(", %d healthy", n)
		}
		out = append(out, r+" ("+text+")")
	}
	if len(out) == 0 {
		return "none: no task says of which revision it is (patchbay sidecar --revision)"
	}
	return strings.Join(out, ", ")
}

// served refuses a revision that nothing can serve for.
func served(s *mesh.Service, key, revision string) error {
	switch n := there(s)[revision]; {
	case n == 0:
		return fmt.Errorf("%s: %q has no endpoint; %s has: %s", key, revision, s.Name, list(s))
	case serving(s, revision) == 0:
		return fmt.Errorf("%s: %q has no healthy endpoint; %s has: %s", key, revision, s.Name, list(s))
	}
	return nil
}

// revisions holds a shift against what there is, and finds out what is in
// production.
func revisions(s *mesh.Service, sh *mesh.Shift) error {
	if sh.To == "" {
		return fmt.Errorf("to: is missing; allowed: a revision of %s: %s", s.Name, list(s))
	}
	if err := served(s, "to", sh.To); err != nil {
		return err
	}
	all := there(s)
	if sh.From != "" {
		if all[sh.From] == 0 { // everything would go to To at once
			return served(s, "from", sh.From)
		}
		return nil
	}
	var err error
	sh.From, err = production(s, sh.To, slices.Sorted(maps.Keys(all)))
	return err
}

// production is the revision that has most of the calls, apart from to.
func production(s *mesh.Service, to string, there []string) (string, error) {
	others := slices.DeleteFunc(slices.Clone(there), func(r string) bool { return r == to })
	if s.Deployment != nil {
		best := mesh.Share{}
		for _, x := range s.Deployment.Shares {
			if x.Revision != to && x.Weight > best.Weight {
				best = x
			}
		}
		if best.Revision != "" {
			return best.Revision, nil
		}
		if f := s.Deployment.Shift.From; f != to && slices.Contains(others, f) {
			return f, nil
		}
	}
	switch len(others) {
	case 0:
		return "", nil
	case 1:
		return others[0], nil
	}
	return "", fmt.Errorf("from: is missing, and %s are all in production; allowed: one of them", strings.Join(others, ", "))
}

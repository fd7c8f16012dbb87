package xds

import (
	"log/slog"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"patchbay/xds/delta"
	"patchbay/xds/translate"
)

// shownMember is an endpoint of a collection as it is shown: its name says the
// address, and says the rest.
type shownMember struct {
	says  translate.Says
	entry *delta.Entry
}

// part takes the assignment out of a service's resources, where endpoints go to
// collections.
func (v *view) part(all []translate.Resource) (others, assignments []translate.Resource) {
	if v.leds == nil {
		return all, nil
	}
	for _, r := range all {
		if _, ok := r.Message.(*endpointv3.ClusterLoadAssignment); ok && r.TypeURL == delta.EndpointType {
			assignments = append(assignments, r)
		} else {
			others = append(others, r)
		}
	}
	return others, assignments
}

// collect moves endpoints of a service from its assignment, if that is valid, to
// collections. Only what changed is encoded. fresh are the service's other
// entries.
func (v *view) collect(owner string, r translate.Resource, fresh []*delta.Entry, gone map[delta.Ref]bool, log *slog.Logger) (entries []*delta.Entry, left []delta.Ref) {
	for _, e := range fresh {
		if e.Ref() == (delta.Ref{TypeURL: delta.ClusterType, Name: r.Name}) {
			v.versions[r.Name] = e.Version()
		}
	}
	if !v.claim(owner, r, gone, log) || !v.withheld.Check(r, v.key, owner, log) {
		return nil, nil
	}
	a, _ := r.Message.(*endpointv3.ClusterLoadAssignment)
	split := v.leds.Split(a, v.versions[r.Name])
	cla, err := delta.NewEntry(delta.EndpointType, r.Name, owner, split.Assignment)
	if err != nil {
		return nil, nil // it is valid
	}
	entries = append(entries, cla.Referring(split.Collections))
	before, now := v.members[r.Name], make(map[string]shownMember, len(split.Members))
	for _, m := range split.Members {
		says := translate.SaysOf(m.Endpoint)
		is, there := before[m.Name]
		if !there || is.says != says {
			e, err := delta.NewEntry(delta.MemberType, m.Name, owner, m.Endpoint)
			if err != nil {
				continue
			}
			is = shownMember{says, e}
			entries = append(entries, e)
		}
		now[m.Name] = is
	}
	v.members[r.Name] = now
	return entries, refs(split.Gone)
}

func refs(members []string) []delta.Ref {
	out := make([]delta.Ref, 0, len(members))
	for _, name := range members {
		out = append(out, delta.Ref{TypeURL: delta.MemberType, Name: name})
	}
	return out
}

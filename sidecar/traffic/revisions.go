package traffic

import (
	"maps"
	"slices"
	"strings"

	"patchbay/agentapi"
)

// revisions counts requests by cluster, where a service's calls are divided
// among its revisions.
type revisions map[string]*agentapi.Revision

func (r revisions) add(cluster, stat string, n uint64) {
	_, revision, divided := strings.Cut(cluster, "~")
	if !divided {
		return
	}
	if r[cluster] == nil {
		r[cluster] = &agentapi.Revision{Revision: revision}
	}
	switch stat {
	case "upstream_rq_total":
		r[cluster].Requests = n
	case "upstream_rq_5xx":
		r[cluster].Errors = n
	}
}

// of are those of one service, sorted.
func (r revisions) of(service string) (out []*agentapi.Revision) {
	for _, cluster := range slices.Sorted(maps.Keys(r)) {
		if strings.HasPrefix(cluster, service+"~") {
			out = append(out, r[cluster])
		}
	}
	return out
}

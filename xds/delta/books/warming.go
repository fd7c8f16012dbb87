package books

import (
	"fmt"
	"slices"

	"patchbay/xds/delta/wire"
)

// Warming explains every cluster of a stream that has no ACK, sorted: for what
// Envoy may be waiting.
func Warming(all *[wire.Kinds]*Books) (out []string) {
	eds := all[wire.Endpoints]
	var missing []string
	for name := range all[wire.Secrets].Wanted() {
		if !all[wire.Secrets].Has(name) {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	for name := range all[wire.Clusters].Waiting {
		switch {
		case !eds.Wants(name):
			out = append(out, fmt.Sprintf("%s: Envoy has not asked for its endpoints", name))
		case eds.Awaited(name):
			out = append(out, fmt.Sprintf("%s: its endpoints have not been sent", name))
		case len(missing) > 0:
			out = append(out, fmt.Sprintf("%s: its endpoints have been sent; secrets that do not exist: %q", name, missing))
		default:
			out = append(out, fmt.Sprintf("%s: everything has been sent", name))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

package translate

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"patchbay/mesh"
)

// FrozenNames is the canonical form of the names of a strict task: a line for
// each, its virtual IP behind it.
func FrozenNames(names map[string]netip.Addr) string {
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(names)) {
		b.WriteString("\n" + n + " " + names[n].String())
	}
	return b.String() + "\n"
}

// alias is an alias where the view's sidecars have it; without a VIP if they
// don't know its name.
func (v View) alias(a mesh.Alias) mesh.Alias {
	if !v.Strict {
		return a
	}
	a.VIP = netip.Addr{}
	if _, rest, ok := strings.Cut(v.Names, "\n"+a.DNSName+" "); ok {
		text, _, _ := strings.Cut(rest, "\n")
		a.VIP, _ = netip.ParseAddr(text) //nolint:errcheck // FrozenNames wrote it
	}
	return a
}

// knows reports whether sidecars of the view are told of s: strict ones only if
// they know one of its names. Their own service counts.
func (v View) knows(s *mesh.Service) bool {
	if !v.Strict || s.Name == (mesh.ServiceName{Namespace: v.Namespace, DiscoveryName: v.Local}) {
		return true
	}
	return slices.ContainsFunc(s.Aliases, func(a mesh.Alias) bool { return v.alias(a).VIP.IsValid() })
}

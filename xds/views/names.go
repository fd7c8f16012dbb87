package views

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"patchbay/mesh"
)

// frozen is the canonical form of the names of a strict task: a line for
// each, its virtual IP behind it.
func frozen(names map[string]netip.Addr) string {
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(names)) {
		b.WriteString("\n" + n + " " + names[n].String())
	}
	return b.String() + "\n"
}

// Alias is an alias where the view's sidecars have it; without a VIP if they
// don't know its name.
func (v View) Alias(a mesh.Alias) mesh.Alias {
	if !v.Strict {
		return a
	}
	a.VIP = netip.Addr{}
	if _, rest, ok := strings.Cut(v.Names, "\n"+a.DNSName+" "); ok {
		text, _, _ := strings.Cut(rest, "\n")
		a.VIP, _ = netip.ParseAddr(text) //nolint:errcheck // frozen wrote it
	}
	return a
}

// Knows reports whether sidecars of the view are told of s: strict ones only if
// they know one of its names. Their own service counts.
func (v View) Knows(s *mesh.Service) bool {
	if !v.Strict || s.Name == (mesh.ServiceName{Namespace: v.Namespace, DiscoveryName: v.Local}) {
		return true
	}
	return slices.ContainsFunc(s.Aliases, func(a mesh.Alias) bool { return v.Alias(a).VIP.IsValid() })
}

// Unserved lists the aliases of s for which the view has no listener, because
// the task itself uses the port.
func (v View) Unserved(s *mesh.Service) []mesh.Alias {
	var out []mesh.Alias
	for _, a := range s.Aliases {
		if v.Blocks(a.Port) && v.Knows(s) {
			out = append(out, a)
		}
	}
	return out
}

package replicas

import (
	"hash/fnv"

	"patchbay/mesh"
)

// owner is the replica of a view that asks about a service: the one with the
// highest hash of both names (rendezvous). If a replica comes or goes, only
// services that it has, or had, change hands.
func owner(view []string, s mesh.ServiceName) string {
	best, at := "", uint64(0)
	for _, name := range view {
		if w := weight(name, s); best == "" || w > at || w == at && name > best {
			best, at = name, w
		}
	}
	return best
}

func weight(replica string, s mesh.ServiceName) uint64 {
	h := fnv.New64a()
	for _, part := range []string{replica, s.Namespace, s.DiscoveryName} {
		_, _ = h.Write([]byte(part))
		_, _ = h.Write([]byte{0})
	}
	// FNV's high bits hardly depend on the last bytes; this mixes them in.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

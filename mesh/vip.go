package mesh

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"
)

// LiveVIPs is the range of virtual IPs of the live profile. Its first /24 is
// left to the agent (its resolver is 127.128.0.53).
var LiveVIPs = netip.MustParsePrefix("127.128.0.0/10")

// StrictVIPs is the range of virtual IPs of the strict profile, as Service
// Connect has it: numbered in each task for itself.
var StrictVIPs = netip.MustParsePrefix("127.255.0.0/16")

// NumberVIPs gives each name the next address of [StrictVIPs], from the first
// on, in their order. Names beyond the range get none.
func NumberVIPs(names []string) map[string]netip.Addr {
	out := make(map[string]netip.Addr, len(names))
	a := StrictVIPs.Masked().Addr()
	for _, n := range names {
		if a = a.Next(); !StrictVIPs.Contains(a) {
			break
		}
		out[n] = a
	}
	return out
}

// PickVIP chooses the VIP of an alias: by hash of the name, the next free one
// on collision. It never returns an address for which taken is true. The same
// inputs give the same answer on every replica. The zero Addr means that the
// range is full.
func PickVIP(dnsName string, taken func(netip.Addr) bool) netip.Addr {
	base := binary.BigEndian.Uint32(LiveVIPs.Masked().Addr().AsSlice())
	size := uint32(1) << (32 - LiveVIPs.Bits())
	const reserved = 256
	h := fnv.New32a()
	h.Write([]byte(dnsName))
	span := size - reserved - 1 // without the last address, as a courtesy to broadcast-minded tools
	start := h.Sum32() % span
	for i := range span {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], base+reserved+(start+i)%span)
		if a := netip.AddrFrom4(b); !taken(a) {
			return a
		}
	}
	return netip.Addr{}
}

// AliasConflict says that two services claim one alias (same DNSName and
// port). Winner was created first and keeps it.
type AliasConflict struct {
	Alias         Alias
	Winner, Loser ServiceName
}

// Resolve makes the services of one namespace fit to be stored together: of
// two that claim one alias the older keeps it (then the lesser name), and an
// alias without a VIP gets one that no other name has. The services given are
// not modified: those that change are copied. The result keeps the order.
func Resolve(services []*Service) ([]*Service, []AliasConflict) {
	type key struct {
		name string
		port uint16
	}
	byAge := slices.Clone(services)
	slices.SortFunc(byAge, func(a, b *Service) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Name.Compare(b.Name))
	})
	owner := map[key]ServiceName{}
	vips := map[string]netip.Addr{}
	taken := map[netip.Addr]string{}
	var conflicts []AliasConflict
	for _, s := range byAge {
		for _, a := range s.Aliases {
			k := key{a.DNSName, a.Port}
			if w, dup := owner[k]; dup {
				conflicts = append(conflicts, AliasConflict{Alias: a, Winner: w, Loser: s.Name})
				continue
			}
			owner[k] = s.Name
			if _, has := vips[a.DNSName]; !has && a.VIP.IsValid() && taken[a.VIP] == "" {
				vips[a.DNSName], taken[a.VIP] = a.VIP, a.DNSName
			}
		}
	}
	for _, s := range byAge {
		for _, a := range s.Aliases {
			if _, has := vips[a.DNSName]; !has {
				v := PickVIP(a.DNSName, func(x netip.Addr) bool { return taken[x] != "" })
				vips[a.DNSName], taken[v] = v, a.DNSName
			}
		}
	}
	out := make([]*Service, 0, len(services))
	for _, s := range services {
		var aliases []Alias
		for _, a := range s.Aliases {
			if owner[key{a.DNSName, a.Port}] == s.Name {
				aliases = append(aliases, Alias{a.DNSName, a.Port, vips[a.DNSName]})
			}
		}
		slices.SortFunc(aliases, Alias.Compare)
		if !slices.Equal(aliases, s.Aliases) {
			c := *s
			c.Aliases = aliases
			s = &c
		}
		out = append(out, s)
	}
	return out, conflicts
}

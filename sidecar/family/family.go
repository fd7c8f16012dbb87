// Package family is which families of IP addresses a task has: what it can
// listen on, and by which others reach it.
//
// It owns what counts as having IPv6, and reads it of the network namespace that
// it runs in. It must not know what is done about it. Start reading at [Reachable].
package family

import (
	"net"
	"net/netip"
)

// Listens reports whether a socket for both families can be had here.
func Listens() bool {
	l, err := net.Listen("tcp6", "[::]:0") //nolint:noctx // closed at once
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// Reachable reports by which families something outside reaches this network
// namespace: whether it has an address of each that is neither loopback nor of
// one link alone. Both are false where that can't be read.
func Reachable() (ipv4, ipv6 bool) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false, false
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().IsGlobalUnicast() {
			continue
		}
		ipv4, ipv6 = ipv4 || p.Addr().Is4(), ipv6 || p.Addr().Is6()
	}
	return ipv4, ipv6
}

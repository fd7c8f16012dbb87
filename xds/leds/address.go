package leds

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// fetchTimeout bounds the damage of a collection that never comes.
const fetchTimeout = 5 * time.Second

// addressKey is an address and port as bytes: 6 for IPv4, 18 for IPv6. What is
// no address keeps its text, so that two are never one.
func addressKey(ip string, port uint32) []byte {
	key := []byte(ip)
	if a, err := netip.ParseAddr(ip); err == nil && a.Zone() == "" {
		key = a.AsSlice()
	}
	return binary.BigEndian.AppendUint16(key, uint16(port)) //nolint:gosec // validated: a port
}

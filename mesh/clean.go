package mesh

import (
	"errors"
	"net/netip"
	"strconv"
)

// The reasons for which an instance of the registry is skipped. Callers count
// them by these values.
var (
	ErrNoAddress   = errors.New("no address")
	ErrHostName    = errors.New("the address is not an IP address")
	ErrScoped      = errors.New("the IPv6 address has a zone")
	ErrUnspecified = errors.New("the address is unspecified, multicast or broadcast")
	ErrLinkLocal   = errors.New("the address is link-local")
	ErrVirtual     = errors.New("the address is in a range of virtual IPs")
	ErrPort        = errors.New("the port is not a number of 1 to 65535")
)

// CleanAddr parses what a registry says of an instance's address and port. It
// accepts only what Envoy accepts: an address that Envoy can't parse is a NACK
// in EDS and the end of the process in LEDS (measured on Envoy 1.40.0). Nor does
// it accept what a task means itself by: an Envoy that connects to a virtual IP
// is sent back to itself by its own redirect rule, until it has no descriptors
// left, and at 169.254.169.254 a task finds its machine's credentials.
func CleanAddr(ip, port string) (netip.AddrPort, error) {
	if ip == "" {
		return netip.AddrPort{}, ErrNoAddress
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.AddrPort{}, ErrHostName
	}
	if a.Zone() != "" {
		return netip.AddrPort{}, ErrScoped
	}
	switch a = a.Unmap(); {
	case a.IsUnspecified(), a.IsMulticast(), a == broadcast:
		return netip.AddrPort{}, ErrUnspecified
	case a.IsLinkLocalUnicast():
		return netip.AddrPort{}, ErrLinkLocal
	case LiveVIPs.Contains(a), StrictVIPs.Contains(a):
		return netip.AddrPort{}, ErrVirtual
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || p == 0 {
		return netip.AddrPort{}, ErrPort
	}
	return netip.AddrPortFrom(a, uint16(p)), nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

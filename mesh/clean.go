package mesh

import (
	"errors"
	"net/netip"
	"regexp"
	"strconv"
)

// The reasons for which an instance of the registry is skipped. Callers count
// them by these values.
var (
	ErrNoAddress   = errors.New("no address")
	ErrHostName    = errors.New("the address is not an IP address")
	ErrScoped      = errors.New("the IPv6 address has a zone")
	ErrUnspecified = errors.New("the address is unspecified or multicast")
	ErrPort        = errors.New("the port is not a number of 1 to 65535")
)

// CleanAddr parses what a registry says of an instance's address and port. It
// accepts only what Envoy accepts: an address that Envoy can't parse is a NACK
// in EDS and the end of the process in LEDS (measured on Envoy 1.40.0).
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
	if a = a.Unmap(); a.IsUnspecified() || a.IsMulticast() {
		return netip.AddrPort{}, ErrUnspecified
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || p == 0 {
		return netip.AddrPort{}, ErrPort
	}
	return netip.AddrPortFrom(a, uint16(p)), nil
}

// Forms of names, from the ECS API reference (ServiceConnectService,
// ServiceConnectClientAlias).
var (
	discoveryName = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,63}$`)
	dnsName       = regexp.MustCompile(`^[a-z0-9_][a-z0-9_.-]{0,126}$`)
	taskName      = regexp.MustCompile(`^[0-9a-zA-Z_-]{1,64}$`)
	// kmsKey is a KeyId of KMS; the longest, the ARN of an alias, has some 320.
	kmsKey = regexp.MustCompile(`^[0-9a-zA-Z:/_-]{1,512}$`)
)

// ValidDiscoveryName reports whether s may be a discoveryName or a portName.
func ValidDiscoveryName(s string) bool { return discoveryName.MatchString(s) }

// ValidKMSKey reports whether s may name a KMS key: id, alias/NAME, or the ARN
// of either.
func ValidKMSKey(s string) bool { return kmsKey.MatchString(s) }

// ValidDNSName reports whether s may be a clientAlias's dnsName. Besides ECS's
// characters it refuses what a hosts file could not hold as one name, and the
// name that every task has for itself.
func ValidDNSName(s string) bool {
	if !dnsName.MatchString(s) || s[len(s)-1] == '.' || s == "localhost" {
		return false
	}
	_, err := netip.ParseAddr(s)
	return err != nil
}

// ValidTask reports whether s may be a task's name.
func ValidTask(s string) bool { return taskName.MatchString(s) }

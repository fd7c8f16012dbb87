package record

import (
	"net/netip"
	"strconv"
	"time"

	"patchbay/mesh"
)

// Instance is one registered instance: the endpoint, and what only the
// registrar and discovery care about.
type Instance struct {
	Endpoint mesh.Endpoint
	Protocol mesh.Protocol // empty if the instance does not say
	Settings string        // hash of the settings document that it was registered with; empty if foreign
	Owner    string        // workload, "namespace/name"; empty if foreign
	Task     string
	Since    time.Time     // when it was registered, to the millisecond; zero if it does not say
	Lease    time.Duration // whole seconds; zero: it never expires
}

// Attributes is i as Cloud Map stores it, without health, which Cloud Map
// keeps by itself. The result is the caller's.
func (i Instance) Attributes() map[string]string {
	m := map[string]string{AttrPort: strconv.Itoa(int(i.Endpoint.Addr.Port()))}
	if a := i.Endpoint.Addr.Addr(); a.Is4() {
		m[AttrIPv4] = a.String()
	} else {
		m[AttrIPv6] = a.String()
	}
	put := func(key, value string) {
		if value != "" {
			m[key] = value
		}
	}
	put(AttrZone, i.Endpoint.Zone)
	put(AttrRevision, i.Endpoint.Revision)
	put(AttrSettings, i.Settings)
	put(AttrProtocol, string(i.Protocol))
	put(AttrOwner, i.Owner)
	put(AttrTask, i.Task)
	if i.Endpoint.TLS {
		m[AttrTLS] = "true"
	}
	if !i.Since.IsZero() {
		m[AttrSince] = strconv.FormatInt(i.Since.UnixMilli(), 10)
	}
	if i.Lease > 0 {
		m[AttrLease] = strconv.Itoa(int(i.Lease / time.Second))
	}
	return m
}

// ParseInstance reads what a registry says of one instance, ours or foreign.
// Only what a caller can't do without is required: an IP address, a port, and
// an unmistakable answer to "does it speak TLS". Errors match those of
// [mesh.CleanAddr] and ErrTLSFlag; see [Reason].
func ParseInstance(id string, health mesh.Health, attrs map[string]string) (Instance, error) {
	ip := attrs[AttrIPv4]
	if ip == "" {
		ip = attrs[AttrIPv6]
	}
	addr, err := mesh.CleanAddr(ip, attrs[AttrPort])
	if err != nil {
		return Instance{}, err
	}
	i := Instance{
		Endpoint: mesh.Endpoint{
			InstanceID: id,
			Addr:       addr,
			Zone:       attrs[AttrZone],
			Health:     health,
			Weight:     1,
			Revision:   attrs[AttrRevision],
		},
		Settings: attrs[AttrSettings],
		Owner:    attrs[AttrOwner],
		Task:     attrs[AttrTask],
	}
	switch attrs[AttrTLS] {
	case "", "false":
	case "true":
		i.Endpoint.TLS = true
	default:
		return Instance{}, ErrTLSFlag
	}
	if p := mesh.Protocol(attrs[AttrProtocol]); p.Valid() {
		i.Protocol = p
	}
	if ms, err := strconv.ParseInt(attrs[AttrSince], 10, 64); err == nil && ms > 0 {
		i.Since = time.UnixMilli(ms).UTC()
	}
	if s, err := strconv.ParseUint(attrs[AttrLease], 10, 31); err == nil {
		i.Lease = time.Duration(s) * time.Second
	}
	return i, nil
}

// ParseHealth is the reverse of [mesh.Health.String]; a word that it does not
// know is Unknown, which is routable.
func ParseHealth(word string) mesh.Health {
	switch word {
	case mesh.Healthy.String():
		return mesh.Healthy
	case mesh.Unhealthy.String():
		return mesh.Unhealthy
	}
	return mesh.Unknown
}

// validVIP reports whether a may stand in the VIP table.
func validVIP(a netip.Addr) bool { return mesh.LiveVIPs.Contains(a) }

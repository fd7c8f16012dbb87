// Package redirect installs the firewall rules of a task: TCP connections to the
// range of virtual IPs go to Envoy's egress listener on loopback and, where it is
// wanted, those from outside to an application's port to Envoy's ingress.
//
// It owns the nftables tables `patchbay` of the network namespace that it runs
// in, one for IPv4 and one for IPv6, and nothing else there: whatever is not
// addressed to the mesh is left alone. It must not know what listens. Start
// reading at [Install].
package redirect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Table is the name of our tables: that of family ip, and that of family ip6
// where connections by IPv6 are taken. One of family inet would do for both, but
// kernels before 5.2 can't translate addresses in it, and one without IPv6 is
// then left with nothing.
const Table = "patchbay"

// Rule is what the table holds: which connections go where.
type Rule struct {
	VIPs netip.Prefix // IPv4
	Port uint16       // of the listener on loopback
	// Own is the time to live of the packets of Envoy's own connections, by which
	// they are known: those to VIPs are dropped, since Envoy would call itself.
	// Zero: nothing is dropped.
	Own byte
	// Ingress is where Envoy listens, by the application's port: connections to
	// that from outside the network namespace go there. Those that stand already
	// stay where they are.
	Ingress map[uint16]uint16
	// IPv6 is set where Envoy takes connections by IPv6 too: those to Ingress go
	// there as well. VIPs are IPv4 whatever the task has.
	IPv6 bool
}

// owner is the abstract socket that the installer of the rule holds while it
// lives. Its name is known in one network namespace, as the rule is: a table
// that nobody stands for was left by an installer that was killed.
const owner = "@patchbay-redirect"

// Installed is a rule that stands in the kernel.
type Installed struct {
	// NoIPv6 is why connections by IPv6 are not taken although they should be: the
	// kernel has no tables for them. Nil: they are, or nobody asked for it.
	NoIPv6 error
	owner  net.Listener // nil: the rule is another's, who lives
}

// Install makes r the only content of our tables, in one transaction: those of
// an earlier run are replaced, and there is no moment without the rule. Where
// the kernel has no tables for IPv6, that of IPv4 is installed alone. The error
// says what to do; it is EPERM when NET_ADMIN is missing.
func Install(r Rule) (*Installed, error) {
	if !r.VIPs.Addr().Is4() || r.Port == 0 {
		return nil, fmt.Errorf("redirect %s to port %d: an IPv4 range and a port are needed", r.VIPs, r.Port)
	}
	own, err := net.Listen("unix", owner) //nolint:noctx // a name; nobody connects
	if err != nil && !errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("claim the redirect rule: %w", err)
	}
	i := &Installed{owner: own}
	no6, err := replace(&r)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("install the redirect rule (nftables, needs NET_ADMIN): %w", err), i.release())
	}
	if r.IPv6 && len(r.Ingress) > 0 {
		i.NoIPv6 = no6
	}
	return i, nil
}

func (i *Installed) release() error {
	if i.owner == nil {
		return nil
	}
	own := i.owner
	i.owner = nil
	return own.Close()
}

// Remove takes the rule out, unless another installer stood for it already
// when it was installed: then it is that one's to remove.
func (i *Installed) Remove() error {
	if i.owner == nil {
		return nil
	}
	if _, err := replace(nil); err != nil {
		return fmt.Errorf("remove the redirect rule (nftables, needs NET_ADMIN): %w", err)
	}
	return i.release()
}

// Package redirect installs the firewall rules of a task: TCP connections to the
// range of virtual IPs go to Envoy's egress listener on loopback and, where it is
// wanted, those from outside to an application's port to Envoy's ingress.
//
// It owns the nftables table `patchbay` of the network namespace that it runs
// in, and nothing else there: whatever is not addressed to the mesh is left
// alone. It must not know what listens. Start reading at [Install].
package redirect

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Table is the name of our table (family ip).
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
	// that from outside the network namespace, by IPv4, go there.
	Ingress map[uint16]uint16
}

// owner is the abstract socket that the installer of the rule holds while it
// lives. Its name is known in one network namespace, as the rule is: a table
// that nobody stands for was left by an installer that was killed.
const owner = "@patchbay-redirect"

// Installed is a rule that stands in the kernel.
type Installed struct {
	owner net.Listener // nil: the rule is another's, who lives
}

// Install makes r the only content of our table, in one transaction: a table
// of an earlier run is replaced, and there is no moment without the rule. The
// error says what to do; it is EPERM when NET_ADMIN is missing.
func Install(r Rule) (*Installed, error) {
	if !r.VIPs.Addr().Is4() || r.Port == 0 {
		return nil, fmt.Errorf("redirect %s to port %d: an IPv4 range and a port are needed", r.VIPs, r.Port)
	}
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	own, err := net.Listen("unix", owner) //nolint:noctx // a name; nobody connects
	if err != nil && !errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("claim the redirect rule: %w", err)
	}
	i := &Installed{own}
	t := &nftables.Table{Name: Table, Family: nftables.TableFamilyIPv4}
	// Making it first lets the deletion succeed when there is none.
	c.AddTable(t)
	c.DelTable(t)
	c.AddTable(t)
	policy := nftables.ChainPolicyAccept
	chain := c.AddChain(&nftables.Chain{
		Name: "output", Table: t, Type: nftables.ChainTypeNAT, Policy: &policy,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	if r.Own != 0 {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: r.own()})
	}
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: r.expressions()})
	if len(r.Ingress) > 0 {
		// What comes from here itself has passed output and is not looked at again.
		in := c.AddChain(&nftables.Chain{
			Name: "prerouting", Table: t, Type: nftables.ChainTypeNAT, Policy: &policy,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
		})
		for _, app := range slices.Sorted(maps.Keys(r.Ingress)) {
			c.AddRule(&nftables.Rule{Table: t, Chain: in, Exprs: intercept(app, r.Ingress[app])})
		}
	}
	if err := c.Flush(); err != nil {
		return nil, errors.Join(fmt.Errorf("install the redirect rule (nftables, needs NET_ADMIN): %w", err), i.release())
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

// toVIPs is `ip protocol tcp ip daddr VIPS`.
func (r Rule) toVIPs() []expr.Any {
	mask := uint32(0xffffffff) << (32 - r.VIPs.Bits())
	net4 := r.VIPs.Masked().Addr().As4()
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.BigEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: net4[:]},
	}
}

// own is `ip protocol tcp ip daddr VIPS ip ttl OWN drop`.
func (r Rule) own() []expr.Any {
	return append(r.toVIPs(),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{r.Own}},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	)
}

// expressions are `ip protocol tcp ip daddr VIPS redirect to :PORT`.
func (r Rule) expressions() []expr.Any {
	return append(r.toVIPs(),
		&expr.Counter{},
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(r.Port)},
		&expr.Redir{RegisterProtoMin: 1},
	)
}

// intercept is `tcp dport APP redirect to :ENVOY`.
func intercept(app, envoy uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(app)},
		&expr.Counter{},
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(envoy)},
		&expr.Redir{RegisterProtoMin: 1},
	}
}

// Remove takes the rule out, unless another installer stood for it already
// when it was installed: then it is that one's to remove.
func (i *Installed) Remove() error {
	if i.owner == nil {
		return nil
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	if there, err := exists(c); err != nil || !there {
		return errors.Join(err, i.release())
	}
	c.DelTable(&nftables.Table{Name: Table, Family: nftables.TableFamilyIPv4})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove the redirect rule: %w", err)
	}
	return i.release()
}

func exists(c *nftables.Conn) (bool, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false, fmt.Errorf("list nftables' tables (needs NET_ADMIN): %w", err)
	}
	for _, t := range tables {
		if t.Name == Table {
			return true, nil
		}
	}
	return false, nil
}

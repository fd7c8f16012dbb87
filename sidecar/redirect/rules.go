package redirect

import (
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Flags of TCP, in the 14th byte of its header.
const (
	fin, syn, rst, ack = 0x01, 0x02, 0x04, 0x10
	flagsAt            = 13
)

// replace makes r the only content of our tables, in one transaction; nil: there
// are none. no6 is why the table of family ip6 is left as it was.
func replace(r *Rule) (no6, err error) {
	if no6 = transact(r, nftables.TableFamilyIPv4, nftables.TableFamilyIPv6); no6 == nil {
		return nil, nil
	}
	return no6, transact(r, nftables.TableFamilyIPv4)
}

func transact(r *Rule, families ...nftables.TableFamily) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	for _, family := range families {
		t := &nftables.Table{Name: Table, Family: family}
		// Making it first lets the deletion succeed when there is none.
		c.AddTable(t)
		c.DelTable(t)
		switch {
		case r == nil:
		case family == nftables.TableFamilyIPv4:
			c.AddTable(t)
			r.outgoing(c, t)
			r.incoming(c, t)
		case r.IPv6 && len(r.Ingress) > 0:
			c.AddTable(t)
			r.incoming(c, t)
		}
	}
	return c.Flush()
}

// outgoing is what becomes of the task's own connections.
func (r *Rule) outgoing(c *nftables.Conn, t *nftables.Table) {
	chain := translating(c, t, "output", nftables.ChainHookOutput)
	if r.Own != 0 {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: r.own()})
	}
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: r.expressions()})
}

// incoming is what becomes of those from outside. What comes from here itself
// has passed the hook of what goes out and is not looked at again.
func (r *Rule) incoming(c *nftables.Conn, t *nftables.Table) {
	if len(r.Ingress) == 0 {
		return
	}
	chain := translating(c, t, "prerouting", nftables.ChainHookPrerouting)
	for _, app := range slices.Sorted(maps.Keys(r.Ingress)) {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: intercept(app, r.Ingress[app])})
	}
}

// first is the priority of our chains: before those that others make for the
// translation of destinations (-100, iptables' nat among them). Of equal ones
// the kernel asks the youngest first, so that it would depend on who came last
// whether a user's own rule for all connections takes the mesh's.
var first = *nftables.ChainPriorityNATDest - 1

func translating(c *nftables.Conn, t *nftables.Table, name string, hook *nftables.ChainHook) *nftables.Chain {
	policy := nftables.ChainPolicyAccept
	return c.AddChain(&nftables.Chain{
		Name: name, Table: t, Type: nftables.ChainTypeNAT, Policy: &policy, Hooknum: hook, Priority: &first,
	})
}

// toVIPs is `ip protocol tcp ip daddr VIPS`.
func (r *Rule) toVIPs() []expr.Any {
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
func (r *Rule) own() []expr.Any {
	return append(r.toVIPs(),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{r.Own}},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	)
}

// expressions are `ip protocol tcp ip daddr VIPS redirect to :PORT`.
func (r *Rule) expressions() []expr.Any {
	return append(r.toVIPs(),
		&expr.Counter{},
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(r.Port)},
		&expr.Redir{RegisterProtoMin: 1},
	)
}

// intercept is `tcp dport APP tcp flags & (fin|syn|rst|ack) == syn redirect to
// :ENVOY`. A packet of a connection that stands is let alone: where the kernel
// has not tracked connections before, it takes the next packet of each for the
// first one.
func intercept(app, envoy uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(app)},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: flagsAt, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{syn}},
		&expr.Counter{},
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(envoy)},
		&expr.Redir{RegisterProtoMin: 1},
	}
}

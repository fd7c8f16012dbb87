// Package closed refuses new connections to ports of a task whose application
// is dead, so that a load balancer that only connects sees it: Envoy itself
// goes on listening.
//
// It owns the nftables table `patchbay-closed` of the network namespace that it
// runs in. Connections that stand are never touched. It must not know why a
// port is closed. Start reading at [Set].
package closed

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Table is the name of our table (family inet).
const Table = "patchbay-closed"

// Flags of TCP, in the 14th byte of its header.
const (
	fin, syn, rst, ack = 0x01, 0x02, 0x04, 0x10
	flagsAt            = 13
	portAt             = 2 // of the destination
)

// Set makes the ports those that refuse new connections, with a reset as where
// nobody listens; no ports: none does. It is one transaction. The error is EPERM
// when NET_ADMIN is missing.
func Set(ports []uint16) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	t := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	// Making it first lets the deletion succeed when there is none.
	c.AddTable(t)
	c.DelTable(t)
	if len(ports) > 0 {
		c.AddTable(t)
		policy := nftables.ChainPolicyAccept
		chain := c.AddChain(&nftables.Chain{
			Name: "input", Table: t, Type: nftables.ChainTypeFilter, Policy: &policy,
			Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
		})
		for _, p := range ports {
			c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: refuse(p)})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("close ports %v (nftables, needs NET_ADMIN): %w", ports, err)
	}
	return nil
}

// refuse is `tcp dport PORT tcp flags & (fin|syn|rst|ack) == syn reject with
// tcp reset`.
func refuse(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: portAt, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: flagsAt, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{syn}},
		&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
	}
}

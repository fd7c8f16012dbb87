package xds

import (
	"log/slog"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
	"patchbay/xds/translate"
	"patchbay/xds/valid"
)

// node is what one stream has for itself.
type node struct {
	mesh.Node
	view     *view
	identity translate.Identity // without the leaf
	lacks    bool               // it counts as lacking in view
	meta     bootstrap.NodeMeta
	zone     string                          // if it is one of a crowd
	leaves   map[mesh.ServiceName]*mesh.Leaf // as last sent
	sent     map[delta.Ref]*delta.Entry

	withheld valid.Book
}

// outdated reports whether there is a newer leaf for n, and whether it has to
// wait for its issuer to be trusted. The first leaf never waits.
func (n *node) outdated(snap *mesh.Snapshot, untrusted map[string]bool) (outdated, wait bool) {
	check := func(name mesh.ServiceName) {
		if l := snap.Leaves[name]; l != nil && l != n.leaves[name] {
			outdated = true
			wait = wait || n.leaves[name] != nil && untrusted[l.Issuer]
		}
	}
	for _, p := range n.meta.Ports {
		name := mesh.ServiceName{Namespace: n.Workload.Namespace, DiscoveryName: p.DiscoveryName}
		check(name)
	}
	if !n.view.Proxyless {
		check(n.Workload.CertificateName())
	}
	return outdated, wait
}

// private are the node's own entries. One that is invalid is withheld: the
// last good one stays. A leaf that was sent stays until there is a newer one.
func (n *node) private(snap *mesh.Snapshot, log *slog.Logger) []*delta.Entry {
	leaf := func(name mesh.ServiceName) *mesh.Leaf {
		if l := snap.Leaves[name]; l != nil {
			n.leaves[name] = l
		}
		return n.leaves[name]
	}
	var out []*delta.Entry
	id := n.identity
	if own := n.Workload.CertificateName(); !n.view.Proxyless && (n.leaves[own] != nil || has(snap, n.Workload)) {
		id.Leaf = leaf(own)
	}
	for _, r := range translate.Node(n.Node, n.meta, leaf, id, n.view.Tracing) {
		ref := delta.Ref{TypeURL: r.TypeURL, Name: r.Name}
		e := n.withheld.Encode(r, n.ID(), "node "+n.ID(), log)
		if e == nil {
			e = n.sent[ref]
		}
		if e != nil {
			n.sent[ref] = e
			out = append(out, e)
		}
	}
	if n.lacks && n.sent[delta.Ref{TypeURL: delta.SecretType, Name: translate.IdentitySecret}] != nil {
		n.lacks = false
		n.view.lacking--
	}
	return out
}

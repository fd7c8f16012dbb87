package agents

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"patchbay/agentapi"
	"patchbay/mesh"
)

// namesApart is the least time between two lists on one stream: the first
// change goes out at once, what follows closely goes out together.
const namesApart = 20 * time.Millisecond

// nameLists makes the list of a namespace once for each generation, however
// many agents want it.
type nameLists struct {
	mu   sync.Mutex
	gen  uint64
	made map[wanted]*agentapi.Names // of generation gen
}

// wanted is what an agent is told the names of.
type wanted struct {
	namespace string
	mesh.Dependencies
	mesh.Hidden
}

// of is a list; nil while the namespace's services are not known. The result is
// shared and must not be changed.
func (l *nameLists) of(snap *mesh.Snapshot, w wanted) *agentapi.Names {
	if !snap.Synced[w.namespace] {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if snap.Generation < l.gen {
		return buildNames(snap.Told(w.namespace, w.Dependencies, w.Hidden)) // a slow reader; not worth keeping
	}
	if l.made == nil || snap.Generation > l.gen {
		l.gen, l.made = snap.Generation, map[wanted]*agentapi.Names{}
	}
	n := l.made[w]
	if n == nil {
		n = buildNames(snap.Told(w.namespace, w.Dependencies, w.Hidden))
		l.made[w] = n
	}
	return n
}

// buildNames lists every alias that has a VIP, sorted by name.
func buildNames(services []*mesh.Service) *agentapi.Names {
	byName := map[string]*agentapi.Name{}
	for _, s := range services {
		for _, a := range s.Aliases {
			if !a.VIP.IsValid() {
				continue
			}
			n := byName[a.DNSName]
			if n == nil {
				n = &agentapi.Name{DnsName: a.DNSName, Vip: a.VIP.String()}
				byName[a.DNSName] = n
			}
			n.Ports = append(n.Ports, uint32(a.Port))
		}
	}
	out := &agentapi.Names{Names: make([]*agentapi.Name, 0, len(byName))}
	for _, n := range byName {
		slices.Sort(n.Ports)
		n.Ports = slices.Compact(n.Ports)
		out.Names = append(out.Names, n)
	}
	slices.SortFunc(out.Names, func(a, b *agentapi.Name) int { return cmp.Compare(a.GetDnsName(), b.GetDnsName()) })
	h := sha256.New()
	for _, n := range out.Names {
		fmt.Fprintln(h, n.GetDnsName(), n.GetVip(), n.GetPorts())
	}
	out.Version = hex.EncodeToString(h.Sum(nil)[:8])
	return out
}

// sendNames keeps the agent's list current until ctx ends or the stream
// breaks.
func (s *session) sendNames(ctx context.Context) {
	sent, w := "", wanted{namespace: s.node.Workload.Namespace, Dependencies: s.dependencies}
	for {
		snap := s.srv.o.Store.Snapshot()
		w.Hidden = snap.Hidden(s.node.Workload)
		if n := s.srv.names.of(snap, w); n != nil && n.GetVersion() != sent {
			if s.send(&agentapi.Down{Message: &agentapi.Down_Names{Names: n}}) != nil {
				return // the reader sees it too and ends the session
			}
			sent = n.GetVersion()
			s.update(func(st *state) { st.namesSent = sent })
			if !pause(ctx, namesApart) {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.srv.o.Store.Changed(snap.Generation):
		}
	}
}

// pause waits for d; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

package agents

import (
	"net/netip"
	"slices"
	"time"
)

// lately is how long a replacement is remembered: tasks of one name take each
// other's place every few seconds, an agent that connects anew does so once.
const lately = time.Minute

// mostRivals bounds what is kept of one node.
const mostRivals = 64

// replacement is a stream that took the place of one that still stood.
type replacement struct {
	at  time.Time
	old netip.Addr
	now netip.Addr
}

// recent are the replacements of late, in their order.
func recent(all []replacement, now time.Time) []replacement {
	all = slices.DeleteFunc(all, func(r replacement) bool { return now.Sub(r.at) > lately })
	return all[max(0, len(all)-mostRivals):]
}

// replaced remembers that v takes old's place. It is called with s.mu held.
func (s *Server) replaced(old, v *session) {
	now := time.Now()
	s.rivals[v.node.ID()] = recent(append(s.rivals[v.node.ID()], replacement{now, old.addr, v.addr}), now)
}

// rivalry forgets what is old, and returns for each node what is not.
func (s *Server) rivalry() map[string]*Rivalry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]*Rivalry{}
	for node, all := range s.rivals {
		if all = recent(all, time.Now()); len(all) == 0 {
			delete(s.rivals, node)
			continue
		}
		s.rivals[node] = all
		r := &Rivalry{Count: len(all)}
		for _, one := range all {
			r.Addresses = append(r.Addresses, one.old.String(), one.now.String())
		}
		slices.Sort(r.Addresses)
		r.Addresses = slices.Compact(r.Addresses)
		out[node] = r
	}
	return out
}

// Rivalry is how often streams of one node have taken each other's place within
// the last minute, counted up to 64, and from which addresses; sorted.
type Rivalry struct {
	Count     int      `json:"count"`
	Addresses []string `json:"addresses"`
}

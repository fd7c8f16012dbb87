package replicas

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"sync"

	"patchbay/mesh"
)

// Content says in one short word what a snapshot shows to sidecars: replicas
// that read the same registry have the same word. It is safe for concurrent
// use, and its work is proportional to the services that changed.
type Content struct {
	mu    sync.Mutex
	last  *mesh.Snapshot
	word  string
	known map[*mesh.Service]uint64
}

// Of is the word of a snapshot; empty before anything was read.
func (c *Content) Of(s *mesh.Snapshot) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s == c.last {
		return c.word
	}
	next := make(map[*mesh.Service]uint64, len(s.Services))
	var sum [8]byte
	var all uint64
	for _, v := range s.Services {
		h, ok := c.known[v]
		if !ok {
			h = shown(v)
		}
		next[v] = h
		all += h // services are told apart by their names, so their order says nothing
	}
	binary.BigEndian.PutUint64(sum[:], all)
	c.last, c.known, c.word = s, next, hex.EncodeToString(sum[:])
	if len(s.Synced) == 0 {
		c.word = ""
	}
	return c.word
}

// shown is a hash of what callers of a service are told.
func shown(v *mesh.Service) uint64 {
	type end struct {
		Addr     netip.AddrPort
		Zone     string
		Health   mesh.Health
		Weight   uint32
		Revision string
		TLS      bool
	}
	it := struct {
		Name     mesh.ServiceName
		Protocol mesh.Protocol
		Aliases  []mesh.Alias
		Settings string
		Ends     []end
	}{Name: v.Name, Protocol: v.Protocol, Aliases: v.Aliases, Settings: v.SettingsHash}
	for _, e := range v.Endpoints {
		it.Ends = append(it.Ends, end{e.Addr, e.Zone, e.Health, e.Weight, e.Revision, e.TLS})
	}
	b, err := json.Marshal(it)
	if err != nil {
		panic(err) // plain values
	}
	h := sha256.Sum256(b)
	return binary.BigEndian.Uint64(h[:8])
}

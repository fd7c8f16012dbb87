package books

import (
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"patchbay/xds/delta/wire"
)

// Memory remembers what nodes have rejected, so that a new stream of a node
// does not bring it again. It is safe for concurrent use.
type Memory struct {
	nodes *lru.Cache[string, *rejections]
}

// rejections of a node; their names are bounded by those of its stream.
type rejections struct {
	mu    sync.Mutex
	kinds [wire.Kinds]map[string]Rejection
	doubt bool
}

// NewMemory returns a memory of that many nodes, those of the latest
// rejections.
func NewMemory(nodes int) *Memory {
	c, err := lru.New[string, *rejections](nodes)
	if err != nil {
		panic(err) // a size below 1
	}
	return &Memory{c}
}

// Keep remembers a rejection.
func (m *Memory) Keep(node string, k wire.Kind, r Rejection) {
	all := m.of(node)
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.kinds[k] == nil {
		all.kinds[k] = map[string]Rejection{}
	}
	all.kinds[k][r.Name] = r
}

// Doubt says whether a node's word on the versions of its endpoints counts on
// its next stream. After it rejected any, clusters may have lost their hosts or
// their collections, and some may have taken what they say they have not: that
// is repaired, but the stream may end before.
func (m *Memory) Doubt(node string, doubt bool) {
	all := m.of(node)
	all.mu.Lock()
	defer all.mu.Unlock()
	all.doubt = doubt
}

// of are a node's rejections, made if need be.
func (m *Memory) of(node string) *rejections {
	fresh := &rejections{}
	if all, found, _ := m.nodes.PeekOrAdd(node, fresh); found {
		return all
	}
	return fresh
}

// Forget forgets rejections: a newer version was accepted.
func (m *Memory) Forget(node string, k wire.Kind, names []string) {
	if all, ok := m.nodes.Peek(node); ok {
		all.mu.Lock()
		defer all.mu.Unlock()
		for _, name := range names {
			delete(all.kinds[k], name)
		}
	}
}

// Recall gives the new books of a node's stream what it has rejected before,
// unless its content has changed since; now is what there is.
func (m *Memory) Recall(node string, all *[wire.Kinds]*Books, now func(wire.Kind, string) *wire.Entry) {
	old, ok := m.nodes.Get(node)
	if !ok {
		return
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	all[wire.Endpoints].doubtful = old.doubt
	for k, names := range old.kinds {
		if wire.Kind(k) == wire.Members {
			continue // never forgotten: see Any
		}
		for name, r := range names {
			if e := now(wire.Kind(k), name); e == nil || e.Hash() != r.version {
				delete(names, name)
			} else {
				set(&all[k].refused, name, r)
			}
		}
	}
}

// Any reports whether a node has rejected anything of a type.
func (m *Memory) Any(node string, k wire.Kind) bool {
	all, ok := m.nodes.Peek(node)
	if !ok {
		return false
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	return len(all.kinds[k]) > 0
}

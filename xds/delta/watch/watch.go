// Package watch shows what passes on streams, as it passes, to whoever looks.
//
// It owns what is shown and keeps nothing: while nobody looks, a
// stream pays one atomic read for each response. It never holds the content of
// a resource. Start reading at [Hub.Watch].
package watch

import (
	"sync"
	"sync/atomic"
	"time"

	"patchbay/xds/delta/wire"
)

// What an [Event] is.
const (
	Push = "push" // a response was handed to the stream
	ACK  = "ack"
	NACK = "nack"
)

const (
	// namesMost bounds the names of one event.
	namesMost = 100
	// behindMost is how many events may wait for a slow watcher; what comes
	// then is counted and not kept.
	behindMost = 1024
)

// Event is a response, or the answer to one.
type Event struct {
	At        time.Time
	Node      string
	Event     string
	Type      string // cds, eds, leds, sds, lds, rds
	Nonce     string
	Resources int
	Names     []string // of the resources, name@version; the first 100
	Removed   []string
	Bytes     int
	// TookSeconds is from the push to its answer.
	TookSeconds float64
	Error       string // of a NACK, in Envoy's words
	// Missed is how many events before this one the watcher was too slow for.
	Missed int
}

// Hub passes events on. The zero value is ready; it is safe for concurrent use.
type Hub struct {
	watching atomic.Int32
	mu       sync.Mutex
	watchers map[*watcher]bool
}

type watcher struct {
	node   string
	events chan Event
	missed int
}

// Watch shows what passes on the streams of a node ("" is every node) until
// stop is called.
func (h *Hub) Watch(node string) (events <-chan Event, stop func()) {
	w := &watcher{node: node, events: make(chan Event, behindMost)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		h.watchers = map[*watcher]bool{}
	}
	h.watchers[w] = true
	h.watching.Store(int32(len(h.watchers)))
	return w.events, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, w)
		h.watching.Store(int32(len(h.watchers)))
	}
}

// Sent shows a response.
func (h *Hub) Sent(node string, k wire.Kind, nonce string, size int, entries []*wire.Entry, removed []string) {
	if h.watching.Load() == 0 {
		return
	}
	e := Event{At: time.Now(), Node: node, Event: Push, Type: k.String(), Nonce: nonce, Resources: len(entries), Bytes: size,
		Removed: removed[:min(len(removed), namesMost)]}
	for _, r := range entries[:min(len(entries), namesMost)] {
		e.Names = append(e.Names, r.Name()+"@"+r.Version())
	}
	h.pass(e)
}

// Answered shows an answer; took is since its response. The text of an ACK is
// empty.
func (h *Hub) Answered(node string, k wire.Kind, r *wire.Request, took time.Duration) {
	if h.watching.Load() == 0 {
		return
	}
	e := Event{At: time.Now(), Node: node, Event: ACK, Type: k.String(), Nonce: r.Nonce, TookSeconds: took.Seconds()}
	if r.Rejected {
		e.Event, e.Error = NACK, r.Reason
	}
	h.pass(e)
}

func (h *Hub) pass(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if w.node != "" && w.node != e.Node {
			continue
		}
		e.Missed = w.missed
		select {
		case w.events <- e:
			w.missed = 0
		default:
			w.missed++
		}
	}
}

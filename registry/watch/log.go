package watch

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Log keeps the newest events and serves them as a stream. It is safe for
// concurrent use. A slow reader costs it nothing: one that falls behind more
// than the log holds is told to resync.
type Log struct {
	epoch string

	mu      sync.Mutex
	ring    []Event
	last    uint64        // revision of the newest event
	changed chan struct{} // closed by the next Append
}

// NewLog returns a log that holds the newest size events.
func NewLog(size int) *Log {
	return &Log{epoch: rand.Text(), ring: make([]Event, size), changed: make(chan struct{})}
}

// Append adds an event and gives it its revision. It never blocks.
func (l *Log) Append(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	e.Revision = l.last
	l.ring[e.Revision%uint64(len(l.ring))] = e
	close(l.changed)
	l.changed = make(chan struct{})
}

// since returns the events after revision, or missed if some of them are gone,
// the newest revision, and a channel that is closed at the next event.
func (l *Log) since(revision uint64) (events []Event, missed bool, last uint64, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if revision > l.last || l.last-revision > uint64(len(l.ring)) {
		return nil, true, l.last, l.changed
	}
	for r := revision + 1; r <= l.last; r++ {
		events = append(events, l.ring[r%uint64(len(l.ring))])
	}
	return events, false, l.last, l.changed
}

// ServeHTTP streams events until the reader leaves or the server stops.
func (l *Log) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "the watch takes GET", http.StatusMethodNotAllowed)
		return
	}
	q := r.URL.Query()
	from, err := strconv.ParseUint(q.Get("from"), 10, 64)
	if q.Has("from") && err != nil {
		http.Error(w, "from must be the revision of the last event that was seen", http.StatusBadRequest)
		return
	}
	_, missed, last, _ := l.since(from)
	if q.Get("epoch") != l.epoch || missed {
		from, missed = last, true
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // not every connection can: then it has none
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	s := stream{log: l, rc: rc, enc: json.NewEncoder(w)}
	if s.send(line{Event: Event{Kind: hello, Revision: from}, Epoch: l.epoch, Resync: missed}) != nil || rc.Flush() != nil {
		return
	}
	s.follow(r.Context(), from)
}

type stream struct {
	log *Log
	rc  *http.ResponseController
	enc *json.Encoder
}

func (s *stream) send(l line) error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeLimit)) // as above
	return s.enc.Encode(l)
}

// follow sends what comes after from until the stream breaks.
func (s *stream) follow(ctx context.Context, from uint64) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		events, missed, last, changed := s.log.since(from)
		if missed {
			events = []Event{{Kind: Resync, Revision: last}}
		}
		for _, e := range events {
			if s.send(line{Event: e}) != nil {
				return
			}
			from = e.Revision
		}
		if len(events) > 0 && s.rc.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-tick.C:
			if s.send(line{Event: Event{Kind: heartbeat, Revision: from}}) != nil || s.rc.Flush() != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

package books

import (
	"sync/atomic"
	"time"
)

// Change is one change of a view on its way to the last ACK. It counts the
// responses that carry it and are not answered yet, plus one for each stream
// that has not sent yet, plus one for whoever made it. It is safe for
// concurrent use.
type Change struct {
	At      time.Time
	left    atomic.Int64
	streams atomic.Int64
	over    func(*Change)
}

// NewChange returns a change that its maker holds; over is called once, when
// the last that concerns a stream is done. It is not called if no stream was
// concerned.
func NewChange(at time.Time, over func(*Change)) *Change {
	ch := &Change{At: at, over: over}
	ch.left.Store(1)
	return ch
}

// Reaches counts a stream that has to send the change.
func (ch *Change) Reaches() {
	ch.left.Add(1)
	ch.streams.Add(1)
}

func (ch *Change) carried() { ch.left.Add(1) }

// Done is called for each thing that was counted.
func (ch *Change) Done() {
	if ch.left.Add(-1) == 0 && ch.streams.Load() > 0 {
		ch.over(ch)
	}
}

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
	// Follower is told how it goes on; nil: nobody is. It is set before the
	// change reaches a stream.
	Follower Follower
}

// Follower is told how one change goes on. Its methods are called while a
// stream is locked, from many goroutines: they must not block.
type Follower interface {
	// Sent says that one more stream has sent all of the change.
	Sent(at time.Time)
	// Answered says that a response with the change was acknowledged, or
	// rejected.
	Answered(at time.Time, rejected bool)
	// Over says that nothing is waited for any more, and how many streams the
	// change concerned. It is called once, last.
	Over(at time.Time, streams int)
	// Exemplar are the labels that lead from a measurement to what is known of
	// the change.
	Exemplar() map[string]string
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
	if ch.left.Add(-1) != 0 {
		return
	}
	streams := ch.streams.Load()
	if streams > 0 {
		ch.over(ch)
	}
	if ch.Follower != nil {
		ch.Follower.Over(time.Now(), int(streams))
	}
}

// Sent is Done for a stream that has sent all of the change.
func (ch *Change) Sent(at time.Time) {
	if ch.Follower != nil {
		ch.Follower.Sent(at)
	}
	ch.Done()
}

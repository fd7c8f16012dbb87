package delta

import (
	"log/slog"

	"patchbay/xds/delta/wire"
)

// Local is a stream inside the process, for a server of another protocol: it
// has the same books, so that its client counts in [Cache.WaitAcked], in the
// status and in the metrics. One goroutine may use it at a time; Wake and the
// stream's own methods are free.
type Local struct{ *Stream }

// Told is one response of the incremental protocol, to be told in other words
// and answered by its nonce.
type Told struct {
	TypeURL, Nonce string
	Entries        []*Entry // to be told even if their version is known
	Removed        []string // what is gone
}

// NewLocal returns a stream for a client. Give it to [Opener.Open], then Attach
// it to what this says.
func (c *Cache) NewLocal(p Peer, log *slog.Logger) Local {
	s := newStream(c, log)
	s.nodeID, s.cluster = p.ID, p.Cluster
	return Local{s}
}

// Attach makes the stream see what it may.
func (l Local) Attach(o Opened) {
	l.rename(o.Known)
	l.cache.attach(o.View, l.Stream)
}

// Detach ends the stream. It must have been attached.
func (l Local) Detach() { l.cache.detach(l.Stream) }

// Wake has something when Collect may have.
func (l Local) Wake() <-chan struct{} { return l.wake }

// Subscribe changes what the client asks for; "*" is everything, of types that
// have a wildcard. What it asks for again is told again.
func (l Local) Subscribe(typeURL string, add, drop []string) error {
	return l.handle(&wire.Request{TypeURL: typeURL, Subscribe: add, Unsubscribe: drop})
}

// Accept notes that the client has taken what was told under a nonce.
func (l Local) Accept(typeURL, nonce string) error {
	return l.handle(&wire.Request{TypeURL: typeURL, Nonce: nonce})
}

// Reject notes that the client has not taken what was told under a nonce.
func (l Local) Reject(typeURL, nonce, reason string) error {
	return l.handle(&wire.Request{TypeURL: typeURL, Nonce: nonce, Rejected: true, Reason: wire.Clip([]byte(reason))})
}

// Collect is what the client must be told now. If again is true, it must be
// called after [books.Patience] even if Wake is silent.
func (l Local) Collect() (all []Told, again bool) {
	out, again := l.collect()
	for _, o := range out {
		all = append(all, Told{TypeURL: o.kind.TypeURL(), Nonce: o.nonce, Entries: o.entries, Removed: o.removed})
	}
	l.idle()
	return all, again
}

package delta

import (
	"log/slog"
	"slices"
	"strings"

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

// Rejected counts and logs that the client took nothing of what was told under
// its newest nonces. It stays unanswered in the books.
func (l Local) Rejected(typeURL, version, text string) {
	k, ok := wire.KindOf(typeURL)
	if !ok {
		return
	}
	l.cache.metrics.ByKind[k].Nacks.Inc()
	l.log.Warn("a client rejected a response", "node", l.nodeID, "type", k.String(), "version", version, "error", wire.Clip([]byte(text)))
}

// Collect is what the client must be told now. If again is true, it must be
// called after [books.Patience] even if Wake is silent.
func (l Local) Collect() (all []Told, again bool) {
	out, again := l.collect()
	for _, o := range out {
		all = append(all, Told{TypeURL: o.kind.TypeURL(), Nonce: o.nonce, Entries: o.entries})
	}
	l.idle()
	return all, again
}

// All are the entries that the client asks for and that exist, sorted by name.
func (l Local) All(typeURL string) (all []*Entry) {
	k, ok := wire.KindOf(typeURL)
	if !ok {
		return nil
	}
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := map[string]bool{}
	for name := range l.names(k) {
		if !seen[name] && l.books[k].Wants(name) {
			seen[name] = true
			all = append(all, l.lookup(k, name))
		}
	}
	slices.SortFunc(all, func(a, b *Entry) int { return strings.Compare(a.Name(), b.Name()) })
	return all
}

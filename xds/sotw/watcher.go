package sotw

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"patchbay/xds/delta"
	"patchbay/xds/delta/books"
)

// watcher is what go-control-plane's server asks for the responses of one
// stream. It is safe for concurrent use.
type watcher struct {
	mu    sync.Mutex
	local delta.Local
	types map[string]*kind
}

// kind is one type of the stream. What the client is told, it is told in the
// order of the books; until it has answered, nothing more.
type kind struct {
	names map[string]bool // subscribed; "*" is all
	open  *cache.Request  // waits for a response, if not nil
	to    chan cache.Response
	queue []delta.Told                   // to be told, oldest first
	sent  []delta.Told                   // in the last response, if that is not answered
	last  *discoveryv3.DiscoveryResponse // that response; it has a nonce once it has gone out
	alone bool                           // it was one that travels alone
	next  map[string]*delta.Entry        // what the client has if it accepts that
	have  map[string]*delta.Entry        // what it has; only where responses are full
	apart int                            // so many of the queue travel alone: one of them was rejected
}

func newWatcher(l delta.Local) *watcher { return &watcher{local: l, types: map[string]*kind{}} }

// run notices changes until ctx ends.
func (w *watcher) run(ctx context.Context) {
	again := time.NewTimer(books.Patience)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.local.Wake():
		case <-again.C:
		}
		w.mu.Lock()
		if w.collect() {
			again.Reset(books.Patience)
		}
		w.mu.Unlock()
	}
}

// collect takes what the books say must be told, and tells it where a request
// waits. The watcher is locked.
func (w *watcher) collect() (again bool) {
	told, again := w.local.Collect()
	for _, t := range told {
		if k := w.types[t.TypeURL]; k != nil {
			k.queue = append(k.queue, t)
		}
	}
	for _, t := range served {
		w.respond(t)
	}
	return again
}

// full reports whether a response of the type holds everything: what it lacks
// is gone.
func full(typeURL string) bool { return typeURL == delta.ClusterType || typeURL == delta.ListenerType }

// CreateWatch implements cache.ConfigWatcher: a request has come, which answers
// the last response of its type.
func (w *watcher) CreateWatch(r *cache.Request, sub cache.Subscription, to chan cache.Response) (func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	typeURL := r.GetTypeUrl()
	k := w.types[typeURL]
	if k == nil {
		k = &kind{names: map[string]bool{}, have: map[string]*delta.Entry{}}
		w.types[typeURL] = k
	}
	if err := w.answer(typeURL, k, r); err != nil {
		return nil, err
	}
	k.open, k.to = r, to
	if err := w.subscribe(typeURL, k, sub); err != nil {
		return nil, err
	}
	w.collect()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if k.open == r {
			k.open = nil
		}
	}, nil
}

// answer takes an ACK or a rejection. Which resource of a response was rejected
// is for the books to find out: they tell each alone, and hold back the one that
// fails alone until its content changes.
func (w *watcher) answer(typeURL string, k *kind, r *cache.Request) error {
	if k.sent != nil && k.last.GetNonce() == "" {
		// A request that changes the subscription came before the response had
		// gone out, and go-control-plane's server drops it then.
		if k.queue, k.sent = append(k.sent, k.queue...), nil; k.alone {
			k.apart++
		}
		return nil
	}
	if r.GetResponseNonce() == "" || k.sent == nil {
		return nil
	}
	sent := k.sent
	k.sent = nil
	bad := r.GetErrorDetail()
	switch {
	case bad == nil:
		k.have = k.next
		for _, t := range sent {
			if err := w.local.Accept(typeURL, t.Nonce); err != nil {
				return err
			}
		}
	case len(sent) > 1:
		k.queue, k.apart = append(sent, k.queue...), len(sent)
	default:
		k.apart = len(k.queue) + len(sent[0].Entries) // the books will tell each again
		return w.local.Reject(typeURL, sent[0].Nonce, bad.GetMessage())
	}
	return nil
}

func (w *watcher) subscribe(typeURL string, k *kind, sub cache.Subscription) error {
	now := map[string]bool{}
	for name := range sub.SubscribedResources() {
		now[name] = true
	}
	if sub.IsWildcard() && full(typeURL) {
		now["*"] = true
	}
	var add, drop []string
	for name := range now {
		if !k.names[name] {
			add = append(add, name)
		}
	}
	for name := range k.names {
		if !now[name] {
			drop = append(drop, name)
			delete(k.have, name)
		}
	}
	k.names = now
	if len(add)+len(drop) == 0 {
		return nil
	}
	slices.Sort(add)
	return w.local.Subscribe(typeURL, add, drop)
}

// respond answers a waiting request, if there is something to say.
func (w *watcher) respond(typeURL string) {
	k := w.types[typeURL]
	if k == nil || k.open == nil || len(k.queue) == 0 {
		return
	}
	n := len(k.queue)
	if k.alone = k.apart > 0; k.alone {
		n, k.apart = 1, k.apart-1
	}
	k.sent, k.queue = k.queue[:n:n], k.queue[n:]
	k.next = map[string]*delta.Entry{}
	if full(typeURL) {
		maps.Copy(k.next, k.have)
	}
	for _, t := range k.sent {
		for _, e := range t.Entries {
			if k.names["*"] || k.names[e.Name()] {
				k.next[e.Name()] = e
			}
		}
		for _, name := range t.Removed {
			delete(k.next, name)
		}
	}
	if len(k.next) == 0 && !full(typeURL) {
		w.said(typeURL, k) // something is gone, which this variant can't say
		return
	}
	all := slices.SortedFunc(maps.Values(k.next), func(a, b *delta.Entry) int { return strings.Compare(a.Name(), b.Name()) })
	versions := map[string]string{}
	for _, e := range all {
		versions[e.Name()] = e.Version()
	}
	out, err := response(typeURL, all)
	if err != nil {
		return // our own bytes
	}
	k.last = out
	k.to <- &answer{request: k.open, response: out, versions: versions}
	k.open = nil
}

// said counts what needs no words as taken, and goes on.
func (w *watcher) said(typeURL string, k *kind) {
	sent := k.sent
	k.sent = nil
	for _, t := range sent {
		if w.local.Accept(typeURL, t.Nonce) != nil {
			return // the stream is at its limit, and its next request ends it
		}
	}
	w.respond(typeURL)
}

// response holds entries. Its version is a hash of theirs.
func response(typeURL string, all []*delta.Entry) (*discoveryv3.DiscoveryResponse, error) {
	out, sum := &discoveryv3.DiscoveryResponse{TypeUrl: typeURL}, fnv.New64a()
	for _, e := range all {
		body, err := unpack(e)
		if err != nil {
			return nil, err
		}
		fmt.Fprint(sum, e.Name(), "\x00", e.Version(), "\x00")
		out.Resources = append(out.Resources, body)
	}
	out.VersionInfo = strconv.FormatUint(sum.Sum64(), 36)
	return out, nil
}

// unpack is the resource in an entry, which is a field of the incremental
// variant's response.
func unpack(e *delta.Entry) (*anypb.Any, error) {
	r := &discoveryv3.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(e.Bytes(), r); err != nil {
		return nil, err
	}
	return r.GetResources()[0].GetResource(), nil
}

// CreateDeltaWatch implements cache.ConfigWatcher; nobody calls it.
func (w *watcher) CreateDeltaWatch(*cache.DeltaRequest, cache.Subscription, chan cache.DeltaResponse) (func(), error) {
	return nil, errors.New("the incremental variant has a server of its own")
}

// answer is a response as go-control-plane's server wants it.
type answer struct {
	request  *cache.Request
	response *discoveryv3.DiscoveryResponse
	versions map[string]string
}

func (a *answer) GetDiscoveryResponse() (*discoveryv3.DiscoveryResponse, error) {
	return a.response, nil
}
func (a *answer) GetRequest() *discoveryv3.DiscoveryRequest { return a.request }
func (a *answer) GetVersion() (string, error)               { return a.response.GetVersionInfo(), nil }
func (a *answer) GetResponseVersion() string                { return a.response.GetVersionInfo() }
func (a *answer) GetReturnedResources() map[string]string   { return a.versions }
func (a *answer) GetContext() context.Context               { return context.Background() }

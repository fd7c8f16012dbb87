package sotw

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
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

// kind is one type of the stream.
type kind struct {
	names    map[string]bool // subscribed; "*" is all
	open     *cache.Request  // waits for a response, if not nil
	to       chan cache.Response
	due      map[string]*delta.Entry // to be told, by name
	greet    bool                    // an answer is due even if it is empty
	nonces   []string                // of the books, for what was told last
	version  string                  // of the last response
	told     map[string]string       // versions in it
	rejected map[string]string       // versions that are held back, by name
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
		k := w.types[t.TypeURL]
		if k == nil {
			continue
		}
		k.nonces = append(k.nonces, t.Nonce)
		for _, e := range t.Entries {
			k.due[e.Name()] = e
		}
		k.greet = k.greet || full(t.TypeURL) // something is gone, or all is empty
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
		k = &kind{names: map[string]bool{}, due: map[string]*delta.Entry{}, rejected: map[string]string{}}
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

// answer takes an ACK or a rejection. What was rejected is held back until its
// content changes; everything else of the response goes on.
func (w *watcher) answer(typeURL string, k *kind, r *cache.Request) error {
	if r.GetResponseNonce() == "" || k.told == nil {
		return nil
	}
	told := k.told
	k.told = nil
	if e := r.GetErrorDetail(); e != nil {
		w.local.Rejected(typeURL, k.version, e.GetMessage())
		k.rejected = told
		return nil
	}
	for name := range told {
		delete(k.rejected, name)
	}
	nonces := k.nonces
	k.nonces = nil
	for _, n := range nonces {
		if err := w.local.Accept(typeURL, n); err != nil {
			return err
		}
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
			delete(k.due, name)
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
	if k == nil || k.open == nil || len(k.due) == 0 && !k.greet {
		return
	}
	var all []*delta.Entry
	if full(typeURL) {
		all = w.local.All(typeURL)
	} else {
		for _, e := range k.due {
			all = append(all, e)
		}
		slices.SortFunc(all, func(a, b *delta.Entry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	versions := map[string]string{}
	fresh := len(k.rejected) == 0
	for _, e := range all {
		versions[e.Name()] = e.Version()
		fresh = fresh || k.rejected[e.Name()] != e.Version()
	}
	if full(typeURL) {
		fresh = fresh || len(versions) != len(k.rejected)
	}
	k.due, k.greet = map[string]*delta.Entry{}, false
	if !fresh {
		return // all of it was rejected at this version
	}
	out, err := response(typeURL, all)
	if err != nil {
		return // our own bytes
	}
	k.version, k.told = out.GetVersionInfo(), versions
	k.to <- &answer{request: k.open, response: out, versions: versions}
	k.open = nil
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

// Package inspect answers what operators ask about the configuration of one
// sidecar: what it is sent, how what its Envoy has differs from that, and what
// a change would do to it before it is made.
//
// It owns these answers, from the engine's books and Envoy's own dump. It must
// not know who may ask (package admin), and never shows a secret: contents come
// from xds/content, redacted. Start reading at [Books.Sent].
package inspect

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"patchbay/admin/api"
	"patchbay/inspect/compare"
	"patchbay/xds/content"
	"patchbay/xds/delta"
	"patchbay/xds/delta/watch"
	"patchbay/xds/delta/wire"
)

// Books are those of the sidecars that are connected here. They are safe for
// concurrent use.
type Books struct{ Cache *delta.Cache }

// NotHere is the error for a node without a stream to this replica.
type NotHere struct{ Node string }

func (e NotHere) Error() string {
	return fmt.Sprintf("the Envoy of %q has no stream to this control plane; `patchbay status` lists those that have", e.Node)
}

// Sent is what a node is sent: in the order of sending, then by name. Empty
// kind and name choose all. A node without a stream is [NotHere].
func (b Books) Sent(node, kind, name string) (*api.Sent, error) {
	st, entries, err := b.wanted(node)
	if err != nil {
		return nil, err
	}
	out := &api.Sent{Node: node, View: st.View, At: time.Now().UTC(), Resources: []api.SentResource{}}
	shown := map[wire.Ref]bool{}
	status := statuses(st)
	for _, e := range entries {
		ref := e.Ref()
		if kind != "" && kind != e.Kind().String() || name != "" && name != e.Name() {
			continue
		}
		shown[ref] = true
		r := api.SentResource{Type: e.Kind().String(), Name: e.Name(), Version: e.Version(), Source: e.Source(), Bytes: len(e.Bytes())}
		status[ref].put(&r)
		m, err := content.Of(e)
		if err == nil {
			r.Content, err = content.JSON(m)
		}
		if err != nil {
			return nil, err
		}
		out.Resources = append(out.Resources, r)
	}
	for _, t := range st.Types {
		for _, n := range t.Missing {
			if (kind == "" || kind == t.Type) && (name == "" || name == n) {
				out.Missing = append(out.Missing, t.Type+" "+n)
			}
		}
	}
	return out, nil
}

// wanted are the entries that a node should have, sorted, each once.
func (b Books) wanted(node string) (*delta.StreamStatus, []*wire.Entry, error) {
	st, entries := b.Cache.Wanted(node)
	if st == nil {
		return nil, nil, NotHere{node}
	}
	slices.SortFunc(entries, func(a, b *wire.Entry) int {
		return cmp.Or(cmp.Compare(a.Kind(), b.Kind()), cmp.Compare(a.Name(), b.Name()))
	})
	return st, slices.CompactFunc(entries, func(a, b *wire.Entry) bool { return a.Ref() == b.Ref() }), nil
}

// said is what the books say of a resource.
type said struct {
	status   delta.ResourceStatus
	rejected *delta.Rejection
}

func (s *said) put(r *api.SentResource) {
	if s == nil {
		r.State = api.Pending
		return
	}
	r.Sent, r.Accepted = s.status.Sent, s.status.Accepted
	switch {
	case s.rejected != nil:
		r.State, r.Error = api.Rejected, s.rejected.Error
	case s.status.Pending || r.Sent == "":
		r.State = api.Pending
	case s.status.Waiting:
		r.State = api.Unanswered
	default:
		r.State = api.Acknowledged
	}
}

func statuses(st *delta.StreamStatus) map[wire.Ref]*said {
	out := map[wire.Ref]*said{}
	at := func(kind, name string) *said {
		ref := wire.Ref{TypeURL: urls[kind], Name: name}
		if out[ref] == nil {
			out[ref] = &said{}
		}
		return out[ref]
	}
	for _, t := range st.Types {
		for _, r := range t.Resources {
			at(t.Type, r.Name).status = r
		}
		for _, r := range t.Rejected {
			at(t.Type, r.Name).rejected = &r
		}
	}
	return out
}

// Kinds are the types by their short names, in the order of sending.
var Kinds = func() (out []string) {
	for k := range wire.Kinds {
		out = append(out, k.String())
	}
	return out
}()

// urls are the types by their short names.
var urls = func() map[string]string {
	out := map[string]string{}
	for k := range wire.Kinds {
		out[k.String()] = k.TypeURL()
	}
	return out
}()

// Watch is GET …?node=NODE: what passes on the node's streams as server-sent
// events, each an [api.Push].
func (b Books) Watch(w http.ResponseWriter, r *http.Request) {
	events, stop := b.Cache.Passing.Watch(r.URL.Query().Get("node"))
	defer stop()
	stream(w, r, events)
}

// beat keeps proxies from closing a quiet stream.
const beat = 15 * time.Second

// stream sends what comes as server-sent events, until the reader leaves or the
// channel is closed.
func stream(w http.ResponseWriter, r *http.Request, events <-chan watch.Event) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	fmt.Fprint(w, ": connected\n\n") //nolint:errcheck // the flush says it
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for out.Flush() == nil {
		var err error
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
			_, err = fmt.Fprint(w, ": still here\n\n")
		case e, open := <-events:
			if !open {
				return
			}
			var text []byte
			if text, err = json.Marshal(api.Push(e)); err == nil {
				_, err = fmt.Fprintf(w, "event: xds\ndata: %s\n\n", text)
			}
		}
		if err != nil {
			return
		}
	}
}

// Differs holds what the Envoy of a node has, by its dump and its page of
// clusters, against what it
// should have. A node without a stream is [NotHere].
func (b Books) Differs(node string, at time.Time, dump, clusters []byte) (*api.Difference, error) {
	_, entries, err := b.wanted(node)
	if err != nil {
		return nil, err
	}
	out := &api.Difference{Node: node, At: at}
	if out.Compared, out.Resources, err = compare.Envoy(entries, dump, clusters); err != nil {
		return nil, fmt.Errorf("%s: %w", node, err)
	}
	return out, nil
}

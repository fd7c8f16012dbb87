package delta

import (
	"log/slog"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"patchbay/xds/delta/wire"
)

// program is a fuzzer's bytes as decisions.
type program []byte

func (p *program) next(n int) int {
	if len(*p) == 0 {
		return 0
	}
	b := (*p)[0]
	*p = (*p)[1:]
	return int(b) % n
}

// abused is a stream without a network, to which anything is said.
type abused struct {
	*testing.T
	cache  *Cache
	stream *Stream
	nonces [kinds][]string
	have   map[Ref]string // as a client that takes everything
}

// FuzzStream lets a client say anything at any time. Nothing may panic, no
// response may be malformed or hold a secret that was not asked for, and a
// client that takes everything must come to rest.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte("requests and changes in some order, and then others"))
	f.Add([]byte{1, 1, 1, 4, 4, 0, 2, 9, 9, 9, 3, 3, 0, 200, 100, 50, 25, 12, 6, 3, 1, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 {
			return
		}
		p := program(data)
		c := NewCache(nil)
		a := &abused{T: t, cache: c, stream: newStream(c, slog.New(slog.DiscardHandler)), have: map[Ref]string{}}
		a.stream.nodeID = "n"
		c.attach("v", a.stream)
		for i := 0; len(p) > 0; i++ {
			k, name := kind(p.next(int(kinds))), string(rune('a'+p.next(4)))
			switch p.next(8) {
			case 0, 1, 2:
				a.say(&p, k, name)
			case 3, 4:
				c.Apply("v", []*Entry{entry(k, name, p.next(5))}, nil, nil)
			case 5:
				c.Apply("v", nil, []Ref{ref(k.TypeURL(), name)}, nil)
			case 6:
				a.stream.SetPrivate([]*Entry{entry(secrets, "leaf/"+name, i), entry(k, name, i)})
			case 7:
				a.read()
			}
		}
		a.rest()
		c.detach(a.stream)
		// One that was read before the stream ended and is handled after.
		if err := a.stream.handle(&wire.Request{TypeURL: EndpointType, Subscribe: []string{"late"}}); err != nil {
			t.Error(err)
		}
		for k := range a.stream.view.sets {
			if s := &a.stream.view.sets[k]; len(s.byName)+s.wild.Size() > 0 {
				t.Errorf("%s: the index still has the stream", kind(k))
			}
		}
	})
}

// say sends a request, which may be nonsense.
func (a *abused) say(p *program, k kind, name string) {
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: k.TypeURL()}
	if p.next(8) == 0 {
		r.TypeUrl = "type.googleapis.com/something"
	}
	for _, n := range []string{name, "*", "leaf/" + name, ""} {
		switch p.next(5) {
		case 0:
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, n)
		case 1:
			r.ResourceNamesUnsubscribe = append(r.ResourceNamesUnsubscribe, n)
		case 2:
			r.InitialResourceVersions = map[string]string{n: "1"}
		}
	}
	switch all := a.nonces[k]; {
	case len(all) > 0 && p.next(3) > 0:
		r.ResponseNonce = all[p.next(len(all))]
	case p.next(4) == 0:
		r.ResponseNonce = "zz"
	}
	b, err := proto.Marshal(r)
	if err != nil {
		a.Fatal(err)
	}
	if p.next(16) == 0 && len(b) > 0 { // broken on its way
		b[p.next(len(b))] ^= byte(1 + p.next(255))
	}
	var got wire.Request
	if err := wire.NewCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, &got); err != nil {
		a.Fatal(err)
	}
	if got.Err == nil {
		got.Rejected = got.Nonce != "" && p.next(4) == 0
		a.stream.handle(&got) //nolint:errcheck // it would end the stream
	}
}

// read takes what is to be sent and looks at it.
func (a *abused) read() (n int) {
	out, _ := a.stream.collect()
	for _, o := range out {
		buf, err := wire.NewCodec().Marshal(o.frame)
		if err != nil {
			a.Fatal(err)
		}
		r := &discoveryv3.DeltaDiscoveryResponse{}
		if err := proto.Unmarshal(buf.Materialize(), r); err != nil {
			a.Fatal(err)
		}
		seen := map[string]bool{}
		for _, x := range r.GetResources() {
			at := ref(r.GetTypeUrl(), x.GetName())
			if seen[x.GetName()] || x.GetResource().GetTypeUrl() != r.GetTypeUrl() {
				a.Fatalf("malformed: %v", r)
			}
			seen[x.GetName()] = true
			if !a.stream.books[o.kind].Wants(x.GetName()) {
				a.Fatalf("%s was not asked for", at)
			}
			a.have[at] = x.GetVersion()
		}
		for _, name := range r.GetRemovedResources() {
			if seen[name] {
				a.Fatalf("%s is added and removed", name)
			}
			seen[name] = true
			delete(a.have, ref(r.GetTypeUrl(), name))
		}
		a.nonces[o.kind] = append(a.nonces[o.kind], r.GetNonce())
	}
	return len(out)
}

// rest takes everything until nothing comes.
func (a *abused) rest() {
	for rounds := 0; ; rounds++ {
		n := a.read()
		for k := range a.nonces {
			for _, nonce := range a.nonces[k] {
				a.stream.handle(&wire.Request{TypeURL: kind(k).TypeURL(), Nonce: nonce}) //nolint:errcheck // likewise
			}
			a.nonces[k] = nil
		}
		if n == 0 && rounds > 1 {
			break
		}
		if rounds > 200 {
			a.Fatal("no end of responses")
		}
	}
	for k, b := range a.stream.books {
		held := map[string]bool{}
		for r := range b.Refused {
			held[r.Name] = true
		}
		for name := range a.stream.names(kind(k)) {
			e := a.stream.lookup(kind(k), name)
			at := e.Ref()
			if b.Seen() && b.Wants(name) && !held[name] && a.have[at] != e.Version() && b.Status().Type != "" && !claimed(b.Status().Resources, name, e.Version()) {
				a.Fatalf("%s is at %q, not %s", at, a.have[at], e.Version())
			}
		}
	}
}

// claimed reports whether the client itself said that it has the version.
func claimed(all []ResourceStatus, name, version string) bool {
	for _, r := range all {
		if r.Name == name {
			return r.Sent == version
		}
	}
	return false
}

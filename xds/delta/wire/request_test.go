package wire

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// FuzzRequest holds our reader against protobuf's: whatever both accept must
// say the same, and what ours refuses must not be a good request.
func FuzzRequest(f *testing.F) {
	for _, r := range []*discoveryv3.DeltaDiscoveryRequest{
		{},
		{Node: &corev3.Node{Id: "a/b/c", Cluster: "a/b"}, TypeUrl: "t", ResourceNamesSubscribe: []string{"x", "*"}},
		{ResponseNonce: "1", ErrorDetail: &statusv3.Status{Code: 3, Message: "no"}, InitialResourceVersions: map[string]string{"x": "1"}},
		{ResourceNamesUnsubscribe: []string{""}, ResourceLocatorsSubscribe: []*discoveryv3.ResourceLocator{{Name: "l"}}},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Request
		err := got.decode(b)
		want := &discoveryv3.DeltaDiscoveryRequest{}
		if proto.Unmarshal(b, want) != nil {
			return // ours skips what it does not need; it must only not panic
		}
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		have := Request{TypeURL: want.GetTypeUrl(), Subscribe: want.GetResourceNamesSubscribe(), Unsubscribe: want.GetResourceNamesUnsubscribe(),
			Versions: want.GetInitialResourceVersions(), Nonce: want.GetResponseNonce(), Rejected: want.GetErrorDetail() != nil}
		got.Node, got.Sum, got.Reason = nil, 0, ""
		if d := cmp.Diff(have, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("(-protobuf +ours):\n%s", d)
		}
	})
}

func TestNodeIsKeptOnceAndCompared(t *testing.T) {
	node := &corev3.Node{Id: "a/b/c", Cluster: "a/b", UserAgentName: "envoy",
		Extensions: []*corev3.Extension{{Name: "x", Category: strings.Repeat("y", 1000)}}}
	b, err := proto.Marshal(&discoveryv3.DeltaDiscoveryRequest{Node: node})
	if err != nil {
		t.Fatal(err)
	}
	var r Request
	if err := NewCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, &r); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	if id, cluster, err := nodeIdentity(r.Node); id != "a/b/c" || cluster != "a/b" || err != nil {
		t.Errorf("%q %q %v", id, cluster, err)
	}
	kept, want := &corev3.Node{}, proto.CloneOf(node)
	want.Extensions = nil
	if err := proto.Unmarshal(r.Node, kept); err != nil || !proto.Equal(kept, want) || cap(r.Node) > 64 {
		t.Errorf("kept %v in %d bytes, %v; want %v", kept, cap(r.Node), err, want)
	}
	again := Request{Known: r.Sum}
	if err := NewCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, &again); err != nil || again.Node != nil {
		t.Errorf("the known node was kept again: %v %v", again.Node, err)
	}
}

func TestFrameIsAResponse(t *testing.T) {
	want := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: ClusterType, Nonce: "n7", RemovedResources: []string{"c"}}
	var entries []*Entry
	for _, name := range []string{"a", "b"} {
		m := &clusterv3.Cluster{Name: name}
		e, err := NewEntry(ClusterType, name, "", m)
		if err != nil {
			t.Fatal(err)
		}
		body, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
		want.Resources = append(want.Resources, &discoveryv3.Resource{Name: name, Version: e.Version(), Resource: body})
	}
	out, err := NewCodec().Marshal(NewFrame(ClusterType, "n7", entries, []string{"c"}))
	if err != nil {
		t.Fatal(err)
	}
	got := &discoveryv3.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(out.Materialize(), got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(want, got) {
		t.Errorf("have %v, want %v", got, want)
	}
}

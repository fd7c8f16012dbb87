package watch

import (
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"patchbay/xds/delta/wire"
)

func TestWatchersSeeTheirNode(t *testing.T) {
	var h Hub
	e, err := wire.NewEntry(wire.ClusterType, "backend.demo", "backend.demo", &clusterv3.Cluster{Name: "backend.demo"})
	if err != nil {
		t.Fatal(err)
	}
	h.Sent("a", wire.Clusters, "1", 10, []*wire.Entry{e}, nil) // nobody looks
	one, stopOne := h.Watch("a")
	all, stopAll := h.Watch("")
	defer stopAll()
	h.Sent("a", wire.Clusters, "2", 10, []*wire.Entry{e}, []string{"gone"})
	h.Answered("b", wire.Clusters, &wire.Request{Nonce: "7", Rejected: true, Reason: "no"}, time.Second)
	if got := <-one; got.Event != Push || got.Nonce != "2" || got.Names[0] != "backend.demo@"+e.Version() || got.Removed[0] != "gone" || got.Bytes != 10 {
		t.Errorf("%+v", got)
	}
	<-all
	if got := <-all; got.Event != NACK || got.Error != "no" || got.TookSeconds != 1 || got.Node != "b" {
		t.Errorf("%+v", got)
	}
	stopOne()
	h.Answered("a", wire.Clusters, &wire.Request{Nonce: "2"}, 0)
	if len(one) != 0 {
		t.Error("one who has stopped is still told")
	}
}

// TestASlowWatcherIsToldWhatItMissed: it holds up nobody, and knows.
func TestASlowWatcherIsToldWhatItMissed(t *testing.T) {
	var h Hub
	events, stop := h.Watch("")
	defer stop()
	for range behindMost + 3 {
		h.Answered("a", wire.Clusters, &wire.Request{Nonce: "1"}, 0)
	}
	for range behindMost {
		if e := <-events; e.Missed != 0 {
			t.Fatal("too early")
		}
	}
	h.Answered("a", wire.Clusters, &wire.Request{Nonce: "2"}, 0)
	if e := <-events; e.Missed != 3 {
		t.Errorf("missed %d, want 3", e.Missed)
	}
}

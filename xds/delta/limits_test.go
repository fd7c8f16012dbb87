package delta

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/xds/delta/admit"
	"patchbay/xds/delta/wire"
)

// figure is the value of a metric, summed over its labels; for a histogram the
// number of its samples.
func (w *world) figure(name string) (sum float64) {
	w.t.Helper()
	all, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != "patchbay_xds_"+name {
			continue
		}
		for _, m := range f.Metric {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
		return sum
	}
	w.t.Fatalf("there is no metric %s", name)
	return 0
}

func (w *world) ended(reason string) float64 {
	all, _ := w.reg.Gather()
	for _, f := range all {
		if f.GetName() != "patchbay_xds_streams_ended_total" {
			continue
		}
		for _, m := range f.Metric {
			if m.Label[0].GetValue() == reason {
				return m.Counter.GetValue()
			}
		}
	}
	return 0
}

func TestNewStreamsOfANodeTakeThePlaceOfItsOldest(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.opener.peer = Peer{ID: testNode.Id, Cluster: testNode.Cluster}
		var all []*client
		for range 5 {
			c := w.connect(t, true)
			c.ask(ClusterType)
			c.expect("cds")
			all = append(all, c)
		}
		if err := all[0].ended(); status.Code(err) != codes.Aborted {
			t.Errorf("the oldest ended with %v", err)
		}
		for _, c := range all[1:] {
			if err := c.ended(); err != nil {
				t.Error(err)
			}
		}
		if n := w.ended("replaced"); n != 1 {
			t.Errorf("%v streams replaced", n)
		}
	})
}

func TestAConnectStormWaitsItsTurn(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.gate = admit.New(admit.Limits{Rate: 2, Burst: 2, Wait: 2 * time.Second})
		var all []*client
		for i := range 8 {
			c := w.connect(t, true)
			c.send(&req{Node: &corev3.Node{Id: fmt.Sprint("n", i), Cluster: "c"}, TypeUrl: ClusterType})
			all = append(all, c)
		}
		synctest.Wait()
		if n := len(w.cache.Status()); n != 2 {
			t.Errorf("%d streams at once", n)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := len(w.cache.Status()); n != 6 {
			t.Errorf("%d streams in the end", n)
		}
		refused := 0
		for _, c := range all {
			if err := c.ended(); status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "come back") {
				refused++
			}
		}
		if refused != 2 || w.ended("limit") != 2 {
			t.Errorf("%d clients were told to come back, %v counted", refused, w.ended("limit"))
		}
	})
}

func TestARejectionOutlivesItsStream(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		w.set(entry(endpoints, "b", 2), entry(clusters, "c", 1))
		in := c.expect("cds +c", "eds +b")
		c.nack(in[0], "bad cluster")
		c.nack(in[1], "bad endpoints")
		c.ack(c.expect("eds +b")...) // the last good ones
		c.expect()
		if n := w.figure("rejected_resources"); n != 2 {
			t.Errorf("%v resources are held back", n)
		}
		c.leave()
		c = w.connect(t, true)
		v := func(k kind, name string) string { return name + "=" + entry(k, name, 1).Version() }
		c.ask(ClusterType, v(clusters, "a"), v(clusters, "b"))
		c.ask(EndpointType, "+a", "+b", v(endpoints, "a"), v(endpoints, "b"))
		// After a rejection nobody knows what it has: all endpoints go again.
		c.ack(c.expect("cds", "eds +a +b")...)
		c.expect()
		got := w.types("prod/web/1")
		if r := got["eds"].Rejected; len(r) != 1 || r[0].Error != "bad endpoints" || r[0].Source != "test" {
			t.Errorf("rejected: %+v", r)
		}
		if r := got["cds"].Rejected; len(r) != 1 || r[0].Name != "c" {
			t.Errorf("rejected: %+v", r)
		}
		// An Envoy that starts anew gets the last good ones.
		c.leave()
		c = w.connect(t, true)
		c.ask(ClusterType)
		c.ask(EndpointType, "+a", "+b")
		in = c.expect("cds +a +b", "eds +a +b")
		if v := in[1].GetResources()[1].GetVersion(); v != entry(endpoints, "b", 1).Version() {
			t.Errorf("not the last good endpoints: %s", v)
		}
		c.ack(in...)
		// Another node has rejected nothing.
		d := w.connect(t, true)
		d.send(&req{Node: &corev3.Node{Id: "prod/web/2", Cluster: "prod/web"}, TypeUrl: ClusterType})
		d.expect("cds +a +b +c")
		// New content is sent, and then nothing is held back on any stream.
		w.set(entry(endpoints, "b", 3), entry(clusters, "c", 2))
		c.ack(c.expect("cds +c", "eds +b")...)
		c.expect()
		c.leave()
		if n := w.figure("rejected_resources"); n != 0 {
			t.Errorf("%v resources are held back", n)
		}
		w.set(entry(endpoints, "b", 2), entry(clusters, "c", 1))
		c = w.connect(t, true)
		c.ask(ClusterType)
		c.expect("cds +a +b +c")
	})
}

// An Envoy that rejects endpoints, or whose answer is lost, may have lost hosts
// and collections although it says that it has this and that version.
func TestTheWordOfANodeIsDoubtedAfterARejection(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		back := func() *client {
			c := w.connect(t, true)
			c.ask(ClusterType, "a="+entry(clusters, "a", 1).Version(), "b="+entry(clusters, "b", 1).Version())
			c.ask(EndpointType, "+a", "+b", "a="+entry(endpoints, "a", 1).Version(), "b="+entry(endpoints, "b", 1).Version())
			return c
		}
		c := w.ready(t)
		w.set(entry(endpoints, "a", 2))
		c.nack(c.expect("eds +a")[0], "bad")
		c.take() // the repair, which it never answers
		w.set(entry(endpoints, "a", 1))
		c.leave()
		c = back()
		c.expect("cds", "eds +a +b")
		c.leave() // again without an answer
		c = back()
		c.ack(c.expect("cds", "eds +a +b")...)
		c.expect()
		c.leave()
		c = back()
		c.ack(c.expect("cds")...)
		c.expect()
	})
}

func TestTheFrameOfAChangeIsMadeOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ready(t)
		for i := range 9 {
			w.ready2(t, fmt.Sprint("prod/web/", i+2))
		}
		sent, shared := w.figure("responses_total"), w.figure("responses_shared_total")
		w.set(entry(endpoints, "a", 2))
		synctest.Wait()
		if n, s := w.figure("responses_total")-sent, w.figure("responses_shared_total")-shared; n != 10 || s < 7 { // two may make it at the same moment
			t.Errorf("%v responses, %v of them shared", n, s)
		}
	})
}

func TestThePushPathIsCounted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		before := map[string]float64{}
		names := []string{"pushes_total", "changed_resources_total", "coalesced_total", "change_ack_seconds", "change_last_ack_seconds", "dirty_resources"}
		for _, n := range names {
			before[n] = w.figure(n)
		}
		w.set(entry(endpoints, "a", 2), entry(endpoints, "b", 2))
		in := c.expect("eds +a +b")
		w.set(entry(endpoints, "a", 3))
		w.set(entry(endpoints, "a", 4)) // merged with the one before
		w.set(entry(endpoints, "a", 4)) // no change
		c.ack(in...)
		c.ack(c.expect("eds +a")...)
		c.expect()
		for i, want := range []float64{3, 4, 1, 3, 3} {
			if got := w.figure(names[i]) - before[names[i]]; got != want {
				t.Errorf("%s grew by %v, want %v", names[i], got, want)
			}
		}
		if w.figure("dirty_resources") == before["dirty_resources"] || w.figure("streams_behind") != 0 {
			t.Error("the dirty sets were not measured")
		}
	})
}

// A client may have four unanswered responses of endpoints; what else changes
// goes in one.
func TestTheWindowOfEndpoints(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.connect(t, true)
		c.ask(EndpointType, "+a", "+b", "+c", "+d", "+e", "+f", "+g")
		c.ack(c.expect("eds +a +b +c +d +e +f +g")...)
		c.expect()
		for name := range strings.SplitSeq("abcdefg", "") {
			w.set(entry(endpoints, name, 1))
			synctest.Wait()
		}
		in := c.expect("eds +a", "eds +b", "eds +c", "eds +d")
		c.ack(in[0])
		c.expect("eds +e +f +g")
	})
}

func TestTheStatusSaysWhatEnvoyWaitsFor(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(entry(clusters, "a", 1), entry(clusters, "b", 1), entry(endpoints, "a", 1))
		c := w.connect(t, true)
		c.ask(ClusterType)
		c.expect("cds +a +b")
		c.ask(EndpointType, "+a")
		c.ask(SecretType, "+bundle/x")
		c.ack(c.take()...)
		synctest.Wait()
		got := strings.Join(w.cache.Status()[0].Warming, "\n")
		want := "a: its endpoints have been sent; secrets that do not exist: [\"bundle/x\"]\nb: Envoy has not asked for its endpoints"
		if got != want {
			t.Errorf("warming:\n%s", got)
		}
		if m := w.types("prod/web/1")["sds"].Missing; len(m) != 1 || m[0] != "bundle/x" {
			t.Errorf("missing: %q", m)
		}
	})
}

// A connection on which nothing is said does not hold a descriptor for long.
func TestSilentConnectionIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		conn, err := w.lis.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		start := time.Now()
		_, err = io.Copy(io.Discard, conn)
		if took := time.Since(start); took > wire.HandshakeTime {
			t.Errorf("it was open for %s (%v)", took, err)
		}
	})
}

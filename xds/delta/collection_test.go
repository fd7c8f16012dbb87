package delta

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const glob = "xdstp://p/t/api/e1/*"

func m(id string) string { return strings.TrimSuffix(glob, "*") + id }

// collected connects a client to cluster a, whose endpoints are in a collection
// of x and y.
func (w *world) collected(t *testing.T) *client {
	t.Helper()
	w.set(entry(clusters, "a", 1), entry(endpoints, "a", 1).Referring([]string{glob}), entry(members, m("x"), 1), entry(members, m("y"), 1))
	c := w.connect(t, true)
	c.ask(ClusterType)
	c.ack(c.expect("cds +a")...)
	c.ask(EndpointType, "+a")
	c.ack(c.expect("eds +a")...)
	c.ask(MemberType, "+"+glob)
	c.ack(c.expect("leds +" + m("x") + " +" + m("y"))...)
	c.expect()
	return c
}

func TestMembersOfACollection(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.collected(t)
		w.set(entry(members, m("x"), 2), entry(members, m("z"), 1))
		in := c.expect("leds +" + m("x") + " +" + m("z"))
		w.set(entry(members, m("x"), 3)) // of a collection one response is on its way
		w.remove(entry(members, m("y"), 1))
		w.set(entry(members, "xdstp://p/t/other/e1/x", 1))
		c.expect()
		c.ack(in...)
		c.ack(c.expect("leds +" + m("x") + " -" + m("y"))...)
		c.expect()
		// Envoy remembers no members: whoever comes back is sent the whole, and
		// told who has left.
		c.leave()
		c = w.connect(t, true)
		c.ask(MemberType, "+"+glob)
		c.ack(c.expect("leds +" + m("x") + " +" + m("z") + " -" + m("y"))...)
		w.set(entry(members, m("y"), 1))
		c.expect("leds +" + m("y"))
	})
}

func TestEmptyAndUnknownCollectionsAreAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.connect(t, true)
		c.ask(MemberType, "+"+glob)
		c.ack(c.expect("leds -" + glob)...)
		w.set(entry(members, m("x"), 1))
		c.ack(c.expect("leds +" + m("x"))...)
		w.remove(entry(members, m("x"), 1))
		c.ack(c.expect("leds -" + m("x"))...)
		d := w.connect(t, true)
		d.ask(MemberType, "+"+glob, "+*", "+")
		d.expect("leds -" + m("x") + " -" + glob)
	})
}

func TestACollectionFollowsItsCluster(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.collected(t)
		w.set(entry(clusters, "a", 2)) // not that it should: a new name is due
		c.ack(c.expect("cds +a", "eds +a", "leds +"+m("x")+" +"+m("y"))...)
		c.expect()
	})
}

// What is replaced goes without a word: its hosts serve until the next
// collection has come.
func TestAReplacedCollectionIsNotTakenAway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.collected(t)
		next := "xdstp://p/t/api/e2/"
		w.cache.Apply("v", []*Entry{entry(endpoints, "a", 2).Referring([]string{next + "*"}), entry(members, next+"x", 1)}, []Ref{ref(MemberType, glob)}, nil)
		c.ack(c.expect("eds +a")...)
		c.ask(MemberType, "+"+next+"*", "-"+glob)
		c.ack(c.expect("leds +" + next + "x")...)
		c.expect()
		if n := len(w.cache.view("v").sets[members].entries); n != 1 {
			t.Errorf("%d members are left", n)
		}
	})
}

func TestTheBarrierWaitsForMembers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.collected(t)
		w.remove(entry(members, m("y"), 1))
		in := c.expect("leds -" + m("y"))
		done := make(chan []string, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go func() { done <- w.cache.WaitAcked(ctx, EndpointType, "a") }()
		synctest.Wait()
		select {
		case missing := <-done:
			t.Fatalf("it did not wait for the members: %v", missing)
		default:
		}
		if missing := w.cache.Unacked(EndpointType, "a"); len(missing) != 1 {
			t.Errorf("unacked: %v", missing)
		}
		c.ack(in...)
		if missing := <-done; missing != nil {
			t.Errorf("missing %v", missing)
		}
		w.set(entry(members, m("x"), 9))
		c.take()
		began := time.Now()
		if missing := w.cache.WaitAcked(ctx, EndpointType, "a"); len(missing) != 1 || time.Since(began) < 9*time.Second {
			t.Errorf("missing %v after %v", missing, time.Since(began))
		}
	})
}

func TestARejectedCollectionEndsCollectionsForTheNode(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.collected(t)
		if !w.opener.streams[0].TakesCollections() {
			t.Error("a new node takes no collections")
		}
		w.set(entry(members, m("x"), 2))
		c.nack(c.expect("leds +" + m("x"))[0], "bad member")
		if err := c.ended(); status.Code(err) != codes.Aborted {
			t.Errorf("ended with %v", err)
		}
		if !strings.Contains(w.logged.String(), "bad member") {
			t.Errorf("not logged:\n%s", w.logged)
		}
		d := w.connect(t, true)
		d.ask(ClusterType)
		d.expect("cds +a")
		if w.opener.streams[1].TakesCollections() {
			t.Error("it would be given collections again")
		}
	})
}

package delta

import (
	"strings"
	"testing"
	"time"
)

// TestConformance is what the xDS protocol says that a server must do, row by
// row, for the incremental variant. What concerns the state of the world alone
// is tested in xds/sotw.
func TestConformance(t *testing.T) {
	for _, row := range []struct {
		must string
		test func(*testing.T)
	}{
		{"1 a nonce on every response, of its own stream", nonces},
		{"2 the node is only guaranteed on the first request", nodeOnce},
		{"3 an ACK means nothing new", ackIsNoQuestion},
		{"3 a rejection is error_detail, never a version", rejectionIsErrorDetail},
		{"4 a stale nonce does not hide subscriptions", staleNonce},
		{"5 what is subscribed again is sent again", resubscribed},
		{"6 what does not exist is said to be gone, and remembered", unknownNames},
		{"7 wildcards, of old and by name", wildcards},
		{"7 no wildcard for what is asked by name", noWildcardForNames},
		{"8 an unsubscribed name under a wildcard is answered", unsubscribedUnderWildcard},
		{"9 phantom unsubscribes are ignored", phantoms},
		{"10 no duplicates in one response", duplicates},
		{"11 removals one by one, never by absence", removalsAreSaid},
		{"12 no response unless something changed", nothingNeedless},
		{"13 what was removed meanwhile is removed on return", removedMeanwhile},
		{"13 a return with everything costs nothing", returnWithEverything},
		{"14 order: clusters, endpoints, listeners, routes, removals", orderOfOneFlush},
		{"14 endpoints follow their cluster", endpointsFollow},
		{"15 a newer request supersedes older ones", newerSupersedes},
		{"16 no aliases and no TTL unasked", noTTL},
		{"17 unknown types do not end the stream", unknownTypes},
		{"18 a first wildcard answer even if empty", emptyGreeting},
	} {
		t.Run(row.must, row.test)
	}
}

func nonces(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(entry(clusters, "a", 1))
		c := w.connect(t, true)
		c.ask(ClusterType)
		first := c.expect("cds +a")
		w.set(entry(clusters, "a", 2))
		second := c.expect("cds +a")
		if a, b := first[0].GetNonce(), second[0].GetNonce(); a == "" || a == b {
			t.Errorf("nonces %q, %q", a, b)
		}
		// A nonce does not survive its stream: on another it says nothing.
		d := w.connect(t, true)
		d.send(&req{Node: testNode, TypeUrl: ClusterType, ResponseNonce: first[0].GetNonce()})
		d.expect("cds +a")
	})
}

func nodeOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(entry(clusters, "a", 1), entry(endpoints, "a", 1))
		c := w.connect(t, true)
		c.ask(EndpointType, "+a") // endpoints may come first, as for local_cluster
		c.expect("eds +a")
		c.send(&req{TypeUrl: ClusterType})
		c.expect("cds +a", "eds +a")
	})
}

func ackIsNoQuestion(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		c.ask(EndpointType) // nothing asked, nothing answered
		c.expect()
		w.set(entry(endpoints, "a", 1)) // the same content
		c.expect()
	})
}

func rejectionIsErrorDetail(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		w.set(entry(endpoints, "a", 2))
		c.nack(c.expect("eds +a")[0], "no good")
		c.expect("eds +a") // the last good one
		r := w.types("prod/web/1")["eds"].Rejected
		if len(r) != 1 || r[0].Name != "a" || r[0].Error != "no good" {
			t.Errorf("rejected: %+v", r)
		}
	})
}

func staleNonce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		w.set(entry(endpoints, "c", 1))
		c.send(&req{TypeUrl: EndpointType, ResponseNonce: "long ago", ResourceNamesSubscribe: []string{"c"}})
		c.expect("eds +c")
	})
}

func resubscribed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		c.ask(EndpointType, "+a")
		c.expect("eds +a")
		c.ask(EndpointType, "-a")
		c.expect()
		w.set(entry(endpoints, "a", 2))
		c.expect()
		c.ask(EndpointType, "+a")
		c.expect("eds +a")
	})
}

func unknownNames(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.connect(t, true)
		c.ask(RouteType, "+late")
		c.ack(c.expect("rds -late")...)
		c.expect()
		c.ask(SecretType, "+leaf/other.prod")
		c.ack(c.expect("sds -leaf/other.prod")...)
		w.set(entry(routes, "late", 1))
		c.expect("rds +late")
		// Endpoints: an empty assignment, for removal would leave Envoy waiting.
		c.ask(EndpointType, "+new")
		in := c.expect("eds +new")
		if n := len(in[0].GetResources()[0].GetResource().GetValue()); n > 10 {
			t.Errorf("the assignment has %d bytes, want an empty one", n)
		}
		c.ack(in...)
		w.set(entry(endpoints, "new", 1))
		c.expect("eds +new")
	})
}

func wildcards(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(entry(clusters, "a", 1), entry(clusters, "b", 1), entry(listeners, "l", 1))
		legacy, star := w.connect(t, true), w.connect(t, true)
		legacy.ask(ClusterType)
		legacy.expect("cds +a +b")
		legacy.ask(ClusterType, "+a") // a name besides; the wildcard stays
		legacy.expect("cds +a")
		star.ask(ListenerType, "+*")
		star.expect("lds +l")
		star.ask(ClusterType, "+a")
		star.expect("cds +a")
		star.ask(ClusterType) // names were asked for: empty is no wildcard now
		star.expect()
		star.ask(ClusterType, "+*")
		star.expect("cds +a +b")
		star.ask(ClusterType, "-*")
		star.expect()
		w.set(entry(clusters, "a", 2), entry(clusters, "b", 2))
		star.expect("cds +a")
		legacy.expect("cds +a +b")
	})
}

func noWildcardForNames(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(entry(secrets, "leaf/x", 1), entry(endpoints, "a", 1), entry(routes, "r", 1))
		w.opener.private = []*Entry{entry(secrets, "leaf/mine", 1)}
		for _, url := range []string{SecretType, EndpointType, RouteType} {
			c := w.connect(t, true)
			c.ask(url)
			c.ask(url, "+*")
			c.ask(url, "+")
			c.ask(url, "-*")
			for _, r := range c.take() {
				if strings.Contains(r.String(), "PRIVATE-KEY") || len(r.GetResources()) > 0 && r.GetResources()[0].GetName() != "" {
					t.Errorf("%s answered %s", url, line(r))
				}
			}
		}
	})
}

func unsubscribedUnderWildcard(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(entry(clusters, "a", 1))
		c := w.connect(t, true)
		c.ask(ClusterType, "+*", "+a", "+no")
		c.expect("cds +a", "cds -no")
		c.ask(ClusterType, "-a", "-no")
		c.expect("cds +a", "cds -no")
	})
}

func phantoms(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		c.ask(EndpointType, "-never", "-*")
		c.expect()
	})
}

func duplicates(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(entry(clusters, "a", 1))
		c := w.connect(t, true)
		c.ask(ClusterType, "+a", "+*", "+a")
		c.expect("cds +a")
	})
}

func removedMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := entry(clusters, "a", 1), entry(clusters, "b", 1)
		w.set(a, b, entry(endpoints, "a", 1), entry(endpoints, "b", 1))
		c := w.connect(t, true)
		c.ask(ClusterType, "a="+a.Version(), "gone=xyz", "b=old")
		c.expect("cds +b", "cds -gone")
		c.ask(EndpointType, "+a", "+b", "+gone", "a="+entry(endpoints, "a", 1).Version(), "b="+entry(endpoints, "b", 1).Version(), "gone=xyz")
		// a is unchanged; b's cluster was sent, so its endpoints must follow.
		c.expect("eds +b", "eds -gone")
	})
}

func returnWithEverything(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ready(t).leave()
		c := w.connect(t, true)
		c.ask(ClusterType, "a="+entry(clusters, "a", 1).Version(), "b="+entry(clusters, "b", 1).Version())
		c.ask(EndpointType, "+a", "+b", "a="+entry(endpoints, "a", 1).Version(), "b="+entry(endpoints, "b", 1).Version())
		c.expect("cds")
	})
}

func orderOfOneFlush(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := func(v int) []*Entry {
			return []*Entry{entry(routes, "r", v), entry(listeners, "l", v), entry(secrets, "s", v), entry(endpoints, "a", v), entry(clusters, "a", v),
				entry(routes, "r2", v), entry(listeners, "l2", v), entry(endpoints, "b", v), entry(clusters, "b", v)}
		}
		w.set(all(1)...)
		c := w.connect(t, true)
		c.ask(ClusterType)
		c.ask(ListenerType)
		c.ask(EndpointType, "+a", "+b")
		c.ask(SecretType, "+s")
		c.ask(RouteType, "+r", "+r2")
		c.ack(c.take()...)
		c.expect()
		// b's endpoints change as well, but Envoy waits only for a's.
		two := all(2)[:5]
		w.set(append(two, entry(endpoints, "b", 2))...)
		c.ack(c.expect("cds +a", "eds +a", "eds +b", "sds +s", "lds +l", "rds +r")...)
		c.expect()
		// What is in use is never missing: clusters go when the client has taken
		// what no longer refers to them.
		w.remove(all(1)[5:]...)
		in := c.expect("lds -l2", "rds -r2")
		c.ack(in[0])
		c.expect()
		c.ack(in[1])
		c.expect("cds -b", "eds -b")
		w.remove(entry(listeners, "l", 2), entry(clusters, "a", 2))
		c.expect("lds -l") // it never answers
		time.Sleep(6 * time.Second)
		c.expect("cds -a")
	})
}

func unknownTypes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.connect(t, true)
		c.ask("type.googleapis.com/envoy.config.nothing.v3.Nothing", "+x")
		c.ask("")
		c.expect()
		w.set(entry(clusters, "a", 1))
		c.ask(ClusterType)
		c.expect("cds +a")
	})
}

func emptyGreeting(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.connect(t, true)
		c.ask(ClusterType)
		c.ask(ListenerType)
		c.expect("cds", "lds")
		w.set(entry(endpoints, "a", 1))
		c.expect()
	})
}

func endpointsFollow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		w.set(entry(clusters, "a", 2)) // its endpoints are the same
		in := c.expect("cds +a", "eds +a")
		c.ack(in[1]) // Envoy withholds the ACK of the cluster: nobody waits for it
		w.set(entry(clusters, "b", 2), entry(endpoints, "a", 2))
		c.ack(c.expect("cds +b", "eds +b", "eds +a")...)
		c.expect()
		// The endpoints of a cluster that stays are never taken away.
		w.remove(entry(endpoints, "a", 2))
		c.expect()
		w.remove(entry(clusters, "a", 2))
		c.expect("cds -a", "eds -a")
	})
}

func removalsAreSaid(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		w.set(entry(clusters, "c", 1))
		c.ack(c.expect("cds +c")...) // a response without a and b takes nothing away
		if c.have[ref(ClusterType, "a")] == "" {
			t.Error("a is gone")
		}
		w.remove(entry(clusters, "c", 1))
		c.expect("cds -c")
	})
}

func nothingNeedless(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		w.set(entry(clusters, "a", 1), entry(endpoints, "a", 1)) // as they were
		w.set(entry(endpoints, "of nobody", 1))
		w.remove(entry(routes, "never there", 1))
		c.ask(EndpointType)
		c.ask(ClusterType, "-nobody")
		w.opener.streams[0].SetPrivate(nil)
		c.expect()
	})
}

func newerSupersedes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.opener.gate = make(chan struct{})
		w.set(entry(routes, "a", 1), entry(routes, "b", 1))
		c := w.connect(t, true)
		c.ask(RouteType, "+a", "+b")
		c.ask(RouteType, "-a")
		c.ask(RouteType, "+a")
		c.ask(RouteType, "-a", "-b")
		c.ask(ClusterType)
		close(w.opener.gate)
		for _, r := range c.take() {
			if r.GetTypeUrl() == RouteType && r.GetNonce() == "" {
				t.Errorf("%s", line(r))
			}
		}
		w.set(entry(routes, "a", 2), entry(routes, "b", 2))
		c.expect()
		c.ask(RouteType, "+b")
		c.expect("rds +b")
	})
}

func noTTL(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(entry(clusters, "a", 1), entry(listeners, "l", 1))
		c := w.connect(t, true)
		c.ask(ClusterType)
		c.ask(ListenerType)
		n := 0
		for _, r := range c.take() {
			for _, x := range r.GetResources() {
				n++
				if x.GetTtl() != nil || len(x.GetAliases()) > 0 || x.GetCacheControl() != nil || x.GetResource() == nil {
					t.Errorf("%s: %v", line(r), x)
				}
			}
		}
		if n != 2 {
			t.Errorf("%d resources", n)
		}
	})
}

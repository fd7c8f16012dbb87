package agents

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"patchbay/agentapi"
)

// report is what a task of an Envoy that started at epoch has counted.
func counted(epoch time.Time, requests, connections, tls13, failed uint64) *agentapi.Traffic {
	return &agentapi.Traffic{Epoch: timestamppb.New(epoch), Served: &agentapi.Served{}, Called: []*agentapi.Called{{
		Service: "backend.demo", Requests: requests, Connections: connections, Established: connections - failed, Tls13: tls13, Failed: failed, Tls: true, P50Ms: 1, P99Ms: 9,
	}}}
}

// TestTotalsGoOnWhenAnEnvoyStartsAgain: counters of a new Envoy begin at zero;
// the totals never go back, and nothing is counted twice.
func TestTotalsGoOnWhenAnEnvoyStartsAgain(t *testing.T) {
	s := New(Options{})
	now := time.Now()
	first, second := now.Add(-time.Hour), now
	l := &s.traffic
	l.report("n/w/1", "n/w", counted(first, 1000, 10, 10, 0), now)
	if e, _ := s.Traffic(); e[0].RequestRate != 0 {
		t.Errorf("%v requests/s are known after one report", e[0].RequestRate)
	}
	l.report("n/w/1", "n/w", counted(first, 1050, 10, 10, 0), now.Add(5*time.Second))
	if e, _ := s.Traffic(); e[0].RequestRate != 10 || e[0].P99 != 9 || e[0].Plain != 0 {
		t.Errorf("%+v", e[0])
	}
	l.report("n/w/1", "n/w", counted(second, 7, 3, 1, 1), now.Add(10*time.Second))
	l.report("n/w/2", "n/w", counted(second, 3, 1, 1, 0), now.Add(10*time.Second))
	totals, _ := s.Totals()
	if got := totals["backend.demo"]; got.Requests != 1060 || got.Connections != 14 || got.TLS13 != 12 || got.Plain != 1 {
		t.Errorf("%+v", got)
	}
	e, _ := s.Traffic()
	if len(e) != 1 || e[0].Workload != "n/w" || e[0].Requests != 10 || e[0].Plain != 1 {
		t.Errorf("%+v", e)
	}
	l.forget("n/w/1")
	if e, _ := s.Traffic(); e[0].Requests != 3 {
		t.Errorf("%+v", e)
	}
}

// TestWhatIsNotEncryptedHasATime: a connection that is not TLS 1.3, one whose
// peer is not trusted, and a refusal at an ingress; but what was there before
// this process, and what it causes itself, is none.
func TestWhatIsNotEncryptedHasATime(t *testing.T) {
	s := New(Options{})
	now, epoch := time.Now(), time.Now().Add(-time.Hour)
	report := func(at time.Time, established, tls13, unverified, refused uint64) (Edge, Ingress) {
		c := counted(epoch, 1, established, tls13, 0)
		c.Called[0].Unverified, c.Served.Refused = unverified, refused
		s.traffic.report("n/w/1", "n/w", c, at)
		e, i := s.Traffic()
		return e[0], i[0]
	}
	if e, i := report(now, 5, 3, 2, 4); !e.Exposed.IsZero() || !e.Distrusted.IsZero() || !i.Knocked.IsZero() {
		t.Errorf("what was there before: %+v %+v", e, i)
	}
	s.traffic.due["n/w/1"] = expected{probeRefusals, now}
	if e, i := report(now.Add(5*time.Second), 6, 4, 2, 6); !e.Exposed.IsZero() || !i.Knocked.IsZero() || i.Refused != 6 {
		t.Errorf("our own probe: %+v %+v", e, i)
	}
	at := now.Add(10 * time.Second)
	if e, i := report(at, 8, 5, 3, 7); !e.Exposed.Equal(at) || !e.Distrusted.Equal(at) || !i.Knocked.Equal(at) {
		t.Errorf("%+v %+v", e, i)
	}
	if e, i := report(now.Add(15*time.Second), 9, 6, 3, 7); !e.Exposed.Equal(at) || !e.Distrusted.Equal(at) || !i.Knocked.Equal(at) {
		t.Errorf("it is remembered: %+v %+v", e, i)
	}
}

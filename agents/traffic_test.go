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

package traffic

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"patchbay/agentapi"
	"patchbay/mesh"
)

// report is what a task of an Envoy that started at epoch has counted.
func counted(epoch time.Time, requests, connections, tls13, failed uint64) *agentapi.Traffic {
	return &agentapi.Traffic{Epoch: timestamppb.New(epoch), Served: &agentapi.Served{}, Called: []*agentapi.Called{{
		Service: "backend.demo", Requests: requests, Connections: connections, Established: connections - failed, Tls13: tls13, Failed: failed, Tls: true, P50Ms: 1, P99Ms: 9,
	}}}
}

// demoMesh has services of the namespace demo, each with the revision blue.
func demoMesh(names ...string) *mesh.Store {
	store := mesh.NewStore()
	var all []*mesh.Service
	for _, n := range names {
		all = append(all, &mesh.Service{Name: mesh.ServiceName{Namespace: "demo", DiscoveryName: n}, Protocol: mesh.HTTP,
			Endpoints: []mesh.Endpoint{{InstanceID: n, Addr: netip.MustParseAddrPort("10.0.0.1:80"), Revision: "blue"}}})
	}
	store.SetServices("demo", all)
	return store
}

// TestOneTaskCantSpoilWhatIsCounted: what is no number, what is no service or
// revision of the mesh, and what has gone is not shown, not kept, and makes no
// labels; the rest of the same report counts.
func TestOneTaskCantSpoilWhatIsCounted(t *testing.T) {
	store := demoMesh("backend", "old")
	l, node := New(store), mesh.Node{Workload: mesh.Workload{Namespace: "demo", Name: "w"}, Task: "1"}
	said := func() *agentapi.Traffic {
		r := counted(time.Now().Add(-time.Hour), 7, 1, 1, 0)
		r.Called[0].P50Ms, r.Called[0].P99Ms = math.NaN(), math.Inf(1)
		r.Called[0].Revisions = []*agentapi.Revision{{Revision: "blue", Requests: 7}, {Revision: "made-up", Requests: 9}}
		r.Called = append(r.Called, &agentapi.Called{Service: "backend.demo", Requests: 99}, &agentapi.Called{Service: "old.demo", Requests: 1, P50Ms: -1})
		for i := range 1000 {
			r.Called = append(r.Called, &agentapi.Called{Service: fmt.Sprintf("no-%d.demo", i)}, &agentapi.Called{Service: fmt.Sprintf("backend.other-%d", i)})
		}
		return r
	}
	l.Report(node, said())
	edges, _ := l.Current()
	if _, err := json.Marshal(edges); err != nil {
		t.Errorf("what is shown is no JSON: %v", err)
	}
	totals, _ := l.Totals()
	if len(edges) != 2 || len(totals) != 2 || totals["backend.demo"].Requests != 7 || edges[0].P50 != 0 || edges[0].P99 != msMost || edges[1].P50 != 0 {
		t.Errorf("%d edges, %d totals: %+v", len(edges), len(totals), edges)
	}
	if len(l.split) != 1 {
		t.Errorf("revisions: %v", l.split)
	}
	store.SetServices("demo", store.Snapshot().Services[:1])
	edges, _ = l.Current()
	if totals, _ = l.Totals(); len(edges) != 1 || len(totals) != 1 || len(l.totals) != 1 {
		t.Errorf("a service has gone: %d edges, %d totals, %d kept", len(edges), len(totals), len(l.totals))
	}
	l = New(mesh.NewStore())
	if l.Report(node, said()); len(l.totals) != 0 || len(l.tasks) != 0 {
		t.Error("a report was booked before the services were known")
	}
}

// TestTotalsGoOnWhenAnEnvoyStartsAgain: counters of a new Envoy begin at zero;
// the totals never go back, and nothing is counted twice.
func TestTotalsGoOnWhenAnEnvoyStartsAgain(t *testing.T) {
	l := New(demoMesh("backend"))
	now := time.Now()
	first, second := now.Add(-time.Hour), now
	l.report("n/w/1", "n/w", counted(first, 1000, 10, 10, 0), now)
	if e, _ := l.Current(); e[0].RequestRate != 0 {
		t.Errorf("%v requests/s are known after one report", e[0].RequestRate)
	}
	l.report("n/w/1", "n/w", counted(first, 1050, 10, 10, 0), now.Add(5*time.Second))
	if e, _ := l.Current(); e[0].RequestRate != 10 || e[0].P99 != 9 || e[0].Plain != 0 {
		t.Errorf("%+v", e[0])
	}
	l.report("n/w/1", "n/w", counted(second, 7, 3, 1, 1), now.Add(10*time.Second))
	l.report("n/w/2", "n/w", counted(second, 3, 1, 1, 0), now.Add(10*time.Second))
	totals, _ := l.Totals()
	if got := totals["backend.demo"]; got.Requests != 1060 || got.Connections != 14 || got.TLS13 != 12 || got.Plain != 1 {
		t.Errorf("%+v", got)
	}
	e, _ := l.Current()
	if len(e) != 1 || e[0].Workload != "n/w" || e[0].Requests != 10 || e[0].Plain != 1 {
		t.Errorf("%+v", e)
	}
	l.Forget("n/w/1")
	if e, _ := l.Current(); e[0].Requests != 3 {
		t.Errorf("%+v", e)
	}
}

// TestWhatIsNotEncryptedHasATime: a connection that is not TLS 1.3, one whose
// peer is not trusted, and a refusal at an ingress; but what was there before
// this process, and what it causes itself, is none.
func TestWhatIsNotEncryptedHasATime(t *testing.T) {
	l := New(demoMesh("backend"))
	now, epoch := time.Now(), time.Now().Add(-time.Hour)
	report := func(at time.Time, established, tls13, unverified, refused uint64) (Edge, Ingress) {
		c := counted(epoch, 1, established, tls13, 0)
		c.Called[0].Unverified, c.Served.Refused = unverified, refused
		l.report("n/w/1", "n/w", c, at)
		e, i := l.Current()
		return e[0], i[0]
	}
	if e, i := report(now, 5, 3, 2, 4); !e.Exposed.IsZero() || !e.Distrusted.IsZero() || !i.Knocked.IsZero() {
		t.Errorf("what was there before: %+v %+v", e, i)
	}
	l.due["n/w/1"] = expected{probeRefusals, now}
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

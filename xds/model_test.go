package xds

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/metadata"

	"patchbay/internal/envoymodel"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
	"patchbay/xds/leds"
	"patchbay/xds/views"
)

// modelled is a model Envoy of the world.
type modelled struct {
	*envoymodel.Envoy
	id    string
	at    map[string]int // where each cluster is in the registry's past
	lost  []string       // what was wrong, in words
	apart bool           // it is not connected
}

func (w *world) model(t *testing.T, h *history, id string) *modelled {
	t.Helper()
	m := &modelled{Envoy: envoymodel.New(envoyNode(t, id, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Redirect})), id: id, at: map[string]int{}}
	m.Routes = func(cluster string, hosts []string) {
		if strings.HasPrefix(cluster, "app-") {
			return
		}
		if err := h.seen(cluster, hosts, m.at); err != nil {
			m.lost = append(m.lost, err.Error())
		}
	}
	m.Refuse = func(_ string, r *discoveryv3.Resource) string {
		if bytes.Contains(r.GetResource().GetValue(), []byte("notanip")) {
			return "malformed IP address: notanip"
		}
		return ""
	}
	w.join(t, m)
	return m
}

func (w *world) join(t *testing.T, m *modelled) {
	t.Helper()
	if err := m.Connect(metadata.AppendToOutgoingContext(t.Context(), "who", m.id), w.dial(t)); err != nil {
		t.Fatal(err)
	}
	m.apart = false
	synctest.Wait()
}

func someAliases(n int) (all []mesh.Alias) {
	for i := range n {
		all = append(all, mesh.Alias{DNSName: string(rune('a' + i)), Port: 8080, VIP: netip.AddrFrom4([4]byte{127, 128, 9, byte(i + 1)})})
	}
	return all
}

// histories is how many seeds are tried: more if PATCHBAY_HISTORIES says so.
func histories(n uint64) uint64 {
	if more, err := strconv.ParseUint(os.Getenv("PATCHBAY_HISTORIES"), 10, 64); err == nil {
		return more
	}
	return n
}

// TestAnyHistoryEndsAsTheRegistry lets anything happen to a registry and to
// three sidecars: one that keeps up, one that reads slowly, and one that loses
// its connection. Each ends with what the registry has, passes through no state
// that the registry never had, and waits for nothing in vain.
func TestAnyHistoryEndsAsTheRegistry(t *testing.T) {
	for seed := range histories(40) {
		mode := []leds.Mode{leds.Off, leds.On}[seed/2%2]
		t.Run(fmt.Sprint(seed, " leds ", mode), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) { anyHistory(t, w, seed, mode) }, Collections(mode))
		})
	}
}

func anyHistory(t *testing.T, w *world, seed uint64, mode leds.Mode) {
	h := newHistory(t, seed, 40, someAliases(6), mode != leds.Off)
	h.store(w.store)
	quick, slow, flaky := w.model(t, h, "prod/web/1"), w.model(t, h, "prod/web/2"), w.model(t, h, "prod/web/3")
	all := []*modelled{quick, slow, flaky}
	var did []string
	poison := seed%2 == 1
	for i := range 150 {
		switch what := h.rng.IntN(12); {
		case what < 7:
			did = append(did, h.change())
			h.store(w.store)
		case what == 7:
			time.Sleep(time.Duration(h.rng.IntN(100)) * time.Millisecond)
		case what == 8:
			for range h.rng.IntN(4) {
				slow.Step()
			}
		case what == 9 && !flaky.apart:
			flaky.Disconnect()
			flaky.apart = true
			did = append(did, "drop")
		case what == 9:
			w.join(t, flaky)
			did = append(did, "join")
		case what == 10 && poison:
			synctest.Wait()
			did = append(did, h.poison(w.cache, w.cache.Status()[0].View))
		case what == 11 && i%10 == 0:
			w.settle(t, h, all, did)
		}
		synctest.Wait()
		for _, m := range []*modelled{quick, flaky} {
			for !m.apart && m.Step() {
				synctest.Wait()
			}
		}
	}
	w.settle(t, h, all, did)
	for _, m := range all {
		// Nobody knows what of a rejected response was taken.
		if len(m.lost) > 0 && m.Rejected == 0 {
			t.Errorf("%s passed through what the registry never had:\n%s", m.id, strings.Join(m.lost, "\n"))
		}
		if m.Rejected > 0 && !poison {
			t.Errorf("%s rejected %d responses", m.id, m.Rejected)
		}
		m.Disconnect()
	}
	time.Sleep(time.Second)
	synctest.Wait()
	if behind, streams := w.cache.Behind(); behind != 0 || streams != 0 {
		t.Errorf("%d of %d streams are behind when all have left", behind, streams)
	}
}

// settle lets everything arrive and compares.
func (w *world) settle(t *testing.T, h *history, all []*modelled, did []string) {
	t.Helper()
	for _, m := range all {
		if m.apart {
			w.join(t, m)
		}
	}
	for quiet := 0; quiet < 3; quiet++ {
		for _, m := range all {
			for m.Step() {
				quiet = 0
				synctest.Wait()
			}
		}
		time.Sleep(gapMax)
		synctest.Wait()
	}
	if len(h.poisoned) > 0 {
		// Of a cluster whose endpoints are rejected, the last good ones may not
		// be known: then it waits once.
		time.Sleep(envoymodel.Patience + time.Second)
		for _, m := range all {
			m.Tick()
			m.Timeouts = 0
			for m.Step() {
				synctest.Wait()
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, m := range all {
			for m.Step() {
				synctest.Wait()
			}
		}
	}
	want := h.expected(views.View{Namespace: "prod", Wiring: mesh.Redirect})
	maps.DeleteFunc(want, func(r delta.Ref, _ string) bool { return r.TypeURL == delta.EndpointType && w.pusher.leds != leds.Off })
	for _, m := range all {
		m.Tick()
		if m.Timeouts > 0 {
			t.Errorf("%s waited in vain %d times", m.id, m.Timeouts)
		}
		if warming := m.Warming(); warming != nil {
			t.Errorf("%s: %q are warming", m.id, warming)
		}
		if err := m.Ended(); err != nil {
			t.Errorf("%s: %v", m.id, err)
		}
		w.compare(t, h, m, want)
		if t.Failed() {
			t.Fatalf("after %d steps, the last: %q", len(did), did[max(0, len(did)-20):])
		}
	}
}

func (w *world) compare(t *testing.T, h *history, m *modelled, want map[delta.Ref]string) {
	t.Helper()
	hosts := map[string][]string{}
	for n, s := range h.services {
		hosts[n+".prod"] = hostsOf(s)
	}
	have := m.Hosts()
	for cluster := range h.poisoned {
		delete(hosts, cluster)
		delete(have, cluster)
	}
	if d := cmp.Diff(hosts, have, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s routes elsewhere (-registry +sidecar):\n%s", m.id, d)
	}
	versions := map[delta.Ref]string{}
	for _, typeURL := range []string{delta.ClusterType, delta.EndpointType, delta.ListenerType, delta.RouteType} {
		if typeURL == delta.EndpointType && w.pusher.leds != leds.Off {
			continue // the names of collections are the process's own
		}
		for n, v := range m.Versions(typeURL) {
			if !h.poisoned[n] || typeURL != delta.EndpointType {
				versions[delta.Ref{TypeURL: typeURL, Name: n}] = v
			}
		}
	}
	if d := cmp.Diff(want, versions); d != "" {
		t.Errorf("%s holds other versions (-registry +sidecar):\n%s", m.id, d)
	}
	open := slices.Sorted(maps.Keys(m.Open()))
	for name, ok := range m.Open() {
		if !ok {
			t.Errorf("%s: listener %s answers 404", m.id, name)
		}
	}
	if n := len(h.services) + 1; len(open) != n {
		t.Errorf("%s has the listeners %q, want %d", m.id, open, n)
	}
}

package xds

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// What endpoints have behind them counts: how often they were left out, how busy
// they say that they are. On a real Envoy.

// An endpoint that fails whenever it comes back is left out for longer each time,
// but for maxEjection at most. Nothing is measured: while one that may grow is out
// once, one that may not has been out, and back, twice. Times that grow alike
// can't do that, and times that don't grow neither.
func TestAnEjectionGrowsToItsMost(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := startControl(t, 0)
	fails := application(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	growing := func(n string, most time.Duration) *mesh.Service {
		s := under(t, n, `{"retries": {"max": 0}, "outlierDetection": {"failures": 1}}`, fails)
		// Shorter than a policy may be, for the test's sake.
		interval, first, longest := policy.Duration(100*time.Millisecond), policy.Duration(200*time.Millisecond), policy.Duration(most)
		o := s.Policy.OutlierDetection
		o.Interval, o.BaseEjection, o.MaxEjection = &interval, &first, &longest
		return s
	}
	capped, free := growing("capped", 200*time.Millisecond), growing("free", time.Hour)
	c.store.SetServices("prod", []*mesh.Service{capped, free})
	e := c.task(t, "prod/web/1", "")
	was := map[string]float64{}
	envoytest.Eventually(t, time.Minute, func() error {
		for _, s := range []*mesh.Service{capped, free} { // one that is out is called all the same: there is no other
			if code := codeOf(patient, s.Aliases[0], "/"); code != http.StatusServiceUnavailable {
				t.Fatalf("%s: %d", s.Name, code)
			}
		}
		stats, now := e.Stats(t), map[string]float64{}
		for _, n := range []string{"capped", "free"} {
			now[n] = stats["cluster."+n+".prod.outlier_detection.ejections_enforced_total"]
		}
		if now["free"] == 0 || now["free"] != was["free"] {
			was = now
		}
		// The first may have begun before, the last may not have ended.
		if now["capped"] < was["capped"]+3 {
			return fmt.Errorf("ejections were %v, and are %v", was, now)
		}
		return nil
	})
}

// Of two endpoints that say how busy they are, each gets what it can carry, and so
// when they change places. Who says nothing, or is not asked to be weighed, is
// called evenly.
func TestEndpointsAreWeighedByTheirLoad(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := startControl(t, 0)
	var swapped atomic.Bool
	reporting := func(n string, other bool) netip.AddrPort {
		return application(t, func(w http.ResponseWriter, _ *http.Request) {
			used := "0.9"
			if other == swapped.Load() {
				used = "0.1"
			}
			w.Header().Set("endpoint-load-metrics", "TEXT cpu_utilization="+used+",rps_fractional=100")
			io.WriteString(w, n)
		})
	}
	a, b := reporting("a", false), reporting("b", true)
	const byLoad = `{"loadBalancing": {"algorithm": "client_side_weighted_round_robin"}}`
	weighed, silent, unasked := under(t, "weighed", byLoad, a, b), under(t, "silent", byLoad, backend(t, "a"), backend(t, "b")), under(t, "unasked", `{}`, a, b)
	c.store.SetServices("prod", []*mesh.Service{weighed, silent, unasked})
	e := c.task(t, "prod/web/1", "")
	start := uptime(t, e)
	const calls = 40
	mostAt := func(who string) {
		t.Helper()
		envoytest.Eventually(t, time.Minute, func() error { // nine of ten
			if got := shares(t, weighed.Aliases[0], calls); got[who] < calls*8/10 || got[who] == calls {
				return fmt.Errorf("%v; want most of them at %s", got, who)
			}
			return nil
		})
	}
	shares(t, weighed.Aliases[0], calls)
	envoytest.Eventually(t, time.Minute, func() error { // reports are believed ten seconds after the first
		if up := uptime(t, e); up <= start+10*time.Second {
			return fmt.Errorf("it runs for %v", up)
		}
		return nil
	})
	mostAt("a")
	swapped.Store(true)
	mostAt("b")
	for _, s := range []*mesh.Service{silent, unasked} {
		if got := shares(t, s.Aliases[0], calls); got["a"] < calls/2-1 || got["a"] > calls/2+1 {
			t.Errorf("%s: %v", s.Name, got)
		}
	}
}

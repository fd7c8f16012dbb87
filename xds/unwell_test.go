package xds

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
)

// Which endpoints are left out, by what policies say, on a real Envoy.

// An endpoint that answers with errors is left out for a while, if a policy
// counts them, and no more of them than it says.
func TestServerErrorsLeaveAnEndpointOut(t *testing.T) {
	c := startControl(t, 0)
	var well atomic.Bool
	bad := application(t, func(w http.ResponseWriter, _ *http.Request) {
		if !well.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, "bad")
	})
	good := backend(t, "good")
	const counts = `{"outlierDetection": {"serverErrors": 3, "interval": "1s", %s}}`
	counted := under(t, "counted", fmt.Sprintf(counts, `"baseEjection": "1h", "maxEjection": "2h"`), bad, good)
	brief := under(t, "brief", fmt.Sprintf(counts, `"baseEjection": "1s", "maxEjection": "1s"`), bad, good)
	spared, ignored := under(t, "spared", fmt.Sprintf(counts, `"maxPercent": 0`), bad, good), under(t, "ignored", `{}`, bad, good)
	c.store.SetServices("prod", []*mesh.Service{counted, brief, spared, ignored})
	e := c.task(t, "prod/web/1", "")
	errors := func(s *mesh.Service, calls int) (n int) {
		for range calls {
			if codeOf(patient, s.Aliases[0], "/") != http.StatusOK {
				n++
			}
		}
		return n
	}
	leftOut := func(s *mesh.Service) float64 {
		return e.Stats(t)["cluster."+s.Name.String()+".outlier_detection.ejections_enforced_consecutive_5xx"]
	}
	const calls = 20
	for _, s := range []*mesh.Service{counted, brief} {
		if n := errors(s, calls); n < 3 {
			t.Errorf("%s: left out after %d errors, want 3", s.Name, n)
		}
		eventually(t, func() error { // another thread of Envoy's does it
			if leftOut(s) == 0 {
				return fmt.Errorf("%s is not left out", s.Name)
			}
			return nil
		})
	}
	if n := errors(counted, calls); n != 0 {
		t.Errorf("left out for an hour: %d errors of %d calls", n, calls)
	}
	for _, s := range []*mesh.Service{spared, ignored} {
		if n, out := errors(s, calls), leftOut(s); n != calls/2 || out != 0 {
			t.Errorf("%s: %d errors of %d calls, and %v are left out", s.Name, n, calls, out)
		}
	}
	well.Store(true)
	envoytest.Eventually(t, time.Minute, func() error {
		if got := shares(t, brief.Aliases[0], 10); got["bad"] == 0 {
			return fmt.Errorf("well again, and after its time: %v", got)
		}
		return nil
	})
	if got := shares(t, counted.Aliases[0], 10); got["bad"] != 0 {
		t.Errorf("well again, before its time: %v", got)
	}
	page, err := e.Get("/config_dump?resource=dynamic_active_clusters&name_regex=" + "counted.prod")
	if err != nil || !strings.Contains(strings.Join(strings.Fields(page), ""), `"max_ejection_time":"7200s"`) {
		t.Errorf("%v\n%s", err, page)
	}
}

// Connections and grpc.health.v1 are asked as a path is, and who does not answer
// in time is not healthy.
func TestHealthChecksOfEveryKind(t *testing.T) {
	c := startControl(t, 0)
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port) }
	says := func(status healthv1.HealthCheckResponse_ServingStatus) uint16 {
		lis, port := listen(t)
		s, h := grpc.NewServer(), health.NewServer()
		h.SetServingStatus("", status)
		healthv1.RegisterHealthServer(s, h)
		go s.Serve(lis) //nolint:errcheck // it ends with Stop
		t.Cleanup(s.Stop)
		return port
	}
	const once = `"interval": "1s", "timeout": "10s", "healthyThreshold": 1, "unhealthyThreshold": 1`
	tcp := under(t, "tcp", `{"healthCheck": {`+once+`}}`, at(tcpApp(t)), at(1))
	tcp.Protocol = mesh.TCP
	rpc := under(t, "rpc", `{"healthCheck": {"protocol": "grpc", `+once+`}}`, at(says(healthv1.HealthCheckResponse_SERVING)), at(says(healthv1.HealthCheckResponse_NOT_SERVING)))
	rpc.Protocol = mesh.GRPC
	silent := application(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	slow := under(t, "slow", `{"healthCheck": {"path": "/healthz", "interval": "1s", "timeout": "200ms", "healthyThreshold": 1, "unhealthyThreshold": 1}}`, backend(t, "ok"), silent)
	services := []*mesh.Service{tcp, rpc, slow}
	c.store.SetServices("prod", services)
	e := c.task(t, "prod/web/1", "")
	for _, s := range services {
		n := s.Name.DiscoveryName
		members(t, e, n, 1)
		if total := e.Stats(t)["cluster."+n+".prod.membership_total"]; total != 2 {
			t.Errorf("%s: %v endpoints", n, total)
		}
	}
	for range 6 {
		if err := callTCP(tcp.Aliases[0]); err != nil {
			t.Error(err)
		}
	}
}

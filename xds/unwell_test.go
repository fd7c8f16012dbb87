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
	const counts = `{"outlierDetection": {"serverErrors": 3, "interval": "1s", "baseEjection": "1s", "maxEjection": "2s"%s}}`
	rows := []struct {
		name, policy string
		errors       int64 // of 40 calls, that the application answers
		endpoints    []netip.AddrPort
	}{
		{"counted", fmt.Sprintf(counts, ""), 3, []netip.AddrPort{bad, good}},
		{"spared", fmt.Sprintf(counts, `, "maxPercent": 0`), 20, []netip.AddrPort{bad, good}},
		{"ignored", `{}`, 20, []netip.AddrPort{bad, good}},
	}
	var services []*mesh.Service
	for _, r := range rows {
		services = append(services, under(t, r.name, r.policy, r.endpoints...))
	}
	c.store.SetServices("prod", services)
	e := c.task(t, "prod/web/1", "")
	for i, r := range rows {
		seen := int64(0)
		for range 40 {
			if codeOf(patient, services[i].Aliases[0], "/") != http.StatusOK {
				seen++
			}
		}
		if seen != r.errors {
			t.Errorf("%s: %d errors, want %d", r.policy, seen, r.errors)
		}
	}
	well.Store(true)
	envoytest.Eventually(t, time.Minute, func() error { // the second time it is left out for longer, at most two seconds
		if got := shares(t, services[0].Aliases[0], 10); got["bad"] == 0 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	page, err := e.Get("/config_dump?resource=dynamic_active_clusters&name_regex=" + "counted.prod")
	if err != nil || !strings.Contains(strings.Join(strings.Fields(page), ""), `"max_ejection_time":"2s"`) {
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

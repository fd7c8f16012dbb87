package traffic

import (
	"testing"
	"time"
)

func TestTrafficOfAPage(t *testing.T) {
	page := `{"stats":[
		{"name":"cluster.backend.demo.upstream_rq_total","value":12}, {"name":"cluster.backend.demo.upstream_rq_5xx","value":2},
		{"name":"cluster.backend.demo.upstream_cx_total","value":5}, {"name":"cluster.backend.demo.upstream_cx_connect_fail","value":1},
		{"name":"cluster.backend.demo.ssl.versions.TLSv1.3","value":3}, {"name":"cluster.backend.demo.ssl.fail_verify_san","value":1},
		{"name":"cluster.backend.demo~v2.upstream_rq_total","value":8}, {"name":"cluster.backend.demo~v2.upstream_rq_5xx","value":1}, {"name":"cluster.backend.demo~v2.upstream_cx_total","value":0}, {"name":"cluster.backend.demo.external.upstream_rq_5xx","value":2}, {"name":"cluster.backend.demo.retry.upstream_rq_5xx","value":6},
		{"name":"cluster.api.corp.internal.upstream_rq_total","value":4}, {"name":"cluster.api.corp.internal.upstream_cx_total","value":1}, {"name":"cluster.api.corp.internal.internal.upstream_rq_5xx","value":9},
		{"name":"cluster.app-web.upstream_rq_total","value":99}, {"name":"cluster.xds.upstream_rq_total","value":99},
		{"name":"cluster.idle.demo.upstream_cx_total","value":0},
		{"name":"http.ingress.downstream_rq_total","value":7}, {"name":"listener.ingress-web.ssl.connection_error","value":1}, {"name":"listener.ingress-api.ssl.connection_error","value":3},
		{"name":"listener.ingress-web.ssl.versions.TLSv1.3","value":6}, {"name":"http.ingress.rbac.denied","value":2}, {"name":"listener.ingress-db.ssl.fail_verify_san","value":3}, {"name":"http.ingress.rbac.shadow_denied","value":4}, {"name":"http.ingress.rbac.allowed","value":9},
		{"name":"http.ingress.http_local_rate_limit.rate_limited","value":3}, {"name":"local_rate_limit.ingress.rate_limited","value":4}, {"name":"http.ingress.http_local_rate_limit.ok","value":9},
		{"name":"server.uptime","value":60},
		{"histograms":{"supported_quantiles":[0,50,99],"computed_quantiles":[
			{"name":"cluster.backend.demo.upstream_rq_time","values":[{"interval":0.5},{"interval":1.5},{"interval":9}]},
			{"name":"cluster.idle.demo.upstream_rq_time","values":[{"interval":null},{"interval":null},{"interval":null}]}]}}]}`
	now := time.Now()
	got, err := read([]byte(page), map[string]uint64{"backend.demo": 3, "backend.demo~v2": 1, "app-web": 9}, now)
	if err != nil || len(got.GetCalled()) != 2 {
		t.Fatalf("%v %+v", err, got)
	}
	if c := got.GetCalled()[0]; c.GetService() != "api.corp.internal" || c.GetRequests() != 4 || c.GetErrors() != 0 {
		t.Errorf("%+v", c)
	}
	c := got.GetCalled()[1]
	if c.GetService() != "backend.demo" || c.GetRequests() != 20 || c.GetErrors() != 3 || c.GetConnections() != 5 || c.GetFailed() != 1 ||
		c.GetTls13() != 3 || c.GetEstablished() != 4 || c.GetUnverified() != 1 || c.GetP50Ms() != 1.5 || c.GetP99Ms() != 9 || !c.GetTls() {
		t.Errorf("%+v", c)
	}
	if r := c.GetRevisions(); len(r) != 1 || r[0].GetRevision() != "v2" || r[0].GetRequests() != 8 || r[0].GetErrors() != 1 {
		t.Errorf("by revision: %v", r)
	}
	if s := got.GetServed(); s.GetRequests() != 7 || s.GetRefused() != 4 || s.GetTls13() != 6 || s.GetDenied() != 5 || s.GetWouldDeny() != 4 || s.GetLimited() != 7 {
		t.Errorf("%+v", s)
	}
	if age := now.Sub(got.GetEpoch().AsTime()); age < 59*time.Second || age > 62*time.Second {
		t.Errorf("Envoy started %v ago", age)
	}
	if _, err := read([]byte("no"), nil, now); err == nil {
		t.Error("nonsense is understood")
	}
}

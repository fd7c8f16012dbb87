package metrics

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patchbay/mesh"
)

var task = Task{Namespace: "prod", Service: "s", Cluster: "c", Ports: []Port{
	{"web", "api", mesh.HTTP}, {"web2", "api", mesh.HTTP}, {"rpc", "rpc", mesh.GRPC}, {"raw", "raw", mesh.TCP},
}}

const counted = `{"stats": [
	{"name": "server.uptime", "value": 100},
	{"name": "listener.ingress-web.downstream_cx_total", "value": 3}, {"name": "listener.ingress-web2.downstream_cx_total", "value": 4},
	{"name": "listener.ingress-web.downstream_cx_active", "value": 2}, {"name": "listener.ingress-web.ssl.connection_error", "value": 1},
	{"name": "listener.ingress-web.ssl.fail_verify_no_cert", "value": 2}, {"name": "listener.ingress-none.downstream_cx_total", "value": 9},
	{"name": "cluster.app-web.upstream_rq_2xx", "value": 5}, {"name": "cluster.app-rpc.upstream_rq_2xx", "value": 6},
	{"name": "cluster.app-raw.upstream_cx_rx_bytes_total", "value": 7}, {"name": "cluster.app-raw.upstream_cx_tx_bytes_total", "value": 8},
	{"name": "cluster.b.prod.upstream_rq_2xx", "value": 10}, {"name": "cluster.b.prod~v2.upstream_rq_5xx", "value": 2},
	{"name": "cluster.b.prod.external.upstream_rq_2xx", "value": 10}, {"name": "cluster.b.prod.retry.upstream_rq_5xx", "value": 2},
	{"name": "cluster.b.prod.membership_total", "value": 3}, {"name": "cluster.b.prod~v2.membership_total", "value": 1},
	{"name": "cluster.b.c.prod.upstream_cx_rx_bytes_total", "value": 1}, {"name": "cluster.idle.prod.membership_total", "value": 5},
	{"name": "cluster.xds.upstream_rq_2xx", "value": 99},
	{"histograms": {"supported_percentiles": [0, 50], "details": [
		{"name": "cluster.b.prod.upstream_rq_time", "totals": [{"lower_bound": 0, "width": 0, "count": 4}, {"lower_bound": 20, "width": 1, "count": 6}], "intervals": []},
		{"name": "cluster.b.prod~v2.upstream_rq_time", "totals": [{"lower_bound": 70000, "width": 1000, "count": 2}]},
		{"name": "cluster.app-web.upstream_rq_time", "totals": [{"lower_bound": 1, "width": 1, "count": 9}]},
		{"name": "cluster.b.prod.external.upstream_rq_time", "totals": [{"lower_bound": 1, "width": 1, "count": 9}]}]}}]}`

func sample(t *testing.T) Sample {
	t.Helper()
	s, err := Read(task, []byte(counted), time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRead(t *testing.T) {
	s := sample(t)
	if !s.Started.Equal(time.Unix(900, 0)) || len(s.In) != 3 || len(s.Out) != 2 {
		t.Fatalf("%+v", s)
	}
	if got, want := s.In[0], (Inbound{DiscoveryName: "api", Active: 2, Connections: 7, Requests: 5, TLSErrors: 3}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := s.In[1], (Inbound{DiscoveryName: "raw", Bytes: 15}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := s.In[2], (Inbound{DiscoveryName: "rpc", Requests: 6, GRPC: 6}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	b := s.Out[0]
	if b.TargetDiscoveryName != "b" || b.Targets != 4 || b.Requests != 12 || b.Class != [6]uint64{2: 10, 5: 2} || b.Time.Count() != 12 || b.Time.Sum != 6*20.5+2*70500 ||
		b.Time.Buckets[0].Count != 4 || b.Time.Buckets[4].Count != 6 || b.Time.Buckets[15].Count != 2 {
		t.Errorf("%+v", b)
	}
	if s.Out[1].TargetDiscoveryName != "b.c" || s.Out[1].Bytes != 1 {
		t.Errorf("%+v", s.Out[1])
	}
	if _, err := Read(task, []byte("no"), time.Now()); err == nil {
		t.Error("nonsense is understood")
	}
}

func TestWhatWasCountedSince(t *testing.T) {
	before, now := sample(t), sample(t)
	now.Started = now.Started.Add(time.Second) // the same start, rounded otherwise
	now.In[0].Connections, now.In[0].Active, now.Out[0].Class[2], now.Out[0].Requests = 9, 1, 11, 1
	d := now.Since(before)
	if i := d.In[0]; i.Connections != 2 || i.Active != 1 || i.Requests != 0 {
		t.Errorf("%+v", i)
	}
	if o := d.Out[0]; o.Class[2] != 1 || o.Time.Count() != 0 || o.Targets != 4 || o.Requests != 1 {
		t.Errorf("%+v", o)
	}
	now.Started = now.Started.Add(time.Minute) // another Envoy
	if d := now.Since(before); d.In[0].Connections != 9 {
		t.Errorf("of a new Envoy %+v", d.In[0])
	}
	if d := now.Since(Sample{}); d.Out[0].Time.Sum != 6*20.5+2*70500 {
		t.Errorf("the first time %+v", d.Out[0])
	}
}

func TestAScrapeWithoutEnvoy(t *testing.T) {
	w := httptest.NewRecorder()
	Handler(task, func(context.Context) (Sample, error) { return Sample{}, errors.New("it is away") }).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != 500 || !strings.Contains(w.Body.String(), "it is away") {
		t.Error(w.Code, w.Body.String())
	}
}

// TestPage: the table of docs/reference/metrics.md names every metric in both
// of its forms.
func TestPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, ok := strings.Cut(string(b), "\n## Of a task\n")
	if !ok {
		t.Fatal("the page has no part about tasks")
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Za-z0-9_]+)` \\| .*`patchbay_sidecar_([a-z_]+)`").FindAllStringSubmatch(page, -1) {
		rows[m[1]] = m[2]
	}
	if len(rows) != 14 {
		t.Errorf("the page has %d metrics, want 14", len(rows))
	}
	for _, d := range []*prometheus.Desc{descActive, descConnections, descBytes, descRequests, descGRPC, descClientTLS, descResponses, descTargets, descTargetBytes, descTargetTime, descTargetTLSError} {
		m := regexp.MustCompile(`fqName: "patchbay_sidecar_([a-z_]+)", help: "([A-Za-z0-9_]+)`).FindStringSubmatch(d.String())
		if m == nil || rows[m[2]] != m[1] {
			t.Errorf("the page says that %s is %s; it is %s", m[2], rows[m[2]], m[1])
		}
	}
}

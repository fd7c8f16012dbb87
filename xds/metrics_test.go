package xds

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/sidecar/metrics"
	"patchbay/xds/bootstrap"
)

// sampled is what an Envoy has counted for a task, as its agent reads it.
func sampled(t metrics.Task, e *envoytest.Envoy) metrics.Source {
	return func(context.Context) (metrics.Sample, error) {
		page, err := e.Get("/stats?format=json&histogram_buckets=detailed&filter=" + url.QueryEscape(metrics.Counted))
		if err != nil {
			return metrics.Sample{}, err
		}
		return metrics.Read(t, []byte(page), time.Now())
	}
}

// scrape is what Prometheus gets, by "name{value of the first label, class}".
func scrape(t *testing.T, task metrics.Task, src metrics.Source) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	metrics.Handler(task, src).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, err)
	}
	out := map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["service_name"] != task.Service || labels["cluster_name"] != task.Cluster {
				t.Errorf("%s: %v", name, labels)
			}
			key := name + "{" + labels["discovery_name"] + labels["target_discovery_name"] + labels["class"] + "}"
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				out[key] = float64(m.GetHistogram().GetSampleCount())
				for _, b := range m.GetHistogram().GetBucket() {
					out[key+fmt.Sprint(b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
			default:
				out[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return out
}

// reported are the lines of embedded metric format, as dimension=name and the
// values under it.
func reported(t *testing.T, text []byte) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for line := range bytes.Lines(text) {
		doc := map[string]any{}
		if err := json.Unmarshal(line, &doc); err != nil {
			t.Fatal(err)
		}
		d := doc["_aws"].(map[string]any)["CloudWatchMetrics"].([]any)[0].(map[string]any)
		for _, m := range d["Metrics"].([]any) {
			if name := m.(map[string]any)["Name"].(string); doc[name] == nil {
				t.Errorf("%s has no value: %s", name, line)
			}
		}
		first := d["Dimensions"].([]any)[0].([]any)[0].(string)
		out[first+"="+doc[first].(string)] = doc
	}
	return out
}

func TestMetricsOfAKnownLoad(t *testing.T) {
	c, ca := startControl(t, 0), testca.New(t)
	c.trust(ca)
	c.issue(t, ca, "web", "1")
	c.issue(t, ca, "bad", "1", "other.prod")
	app, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			<-time.After(1100 * time.Millisecond)
		case "/none":
			w.WriteHeader(http.StatusNotFound)
		case "/busy":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/wrong":
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	ports := []bootstrap.Port{offer(t, "web", mesh.HTTP, app, "default"), offer(t, "rpc", mesh.GRPC, grpcApp(t), ""), offer(t, "raw", mesh.TCP, tcpApp(t), ""), offer(t, "bad", mesh.HTTP, app, "default")}
	at := map[string]mesh.Alias{}
	var services []*mesh.Service
	task := metrics.Task{Namespace: "prod", Service: "backend", Cluster: "east"}
	for _, p := range ports {
		at[p.DiscoveryName] = freeAlias(t, p.DiscoveryName)
		services = append(services, offered(p.Protocol, at[p.DiscoveryName], p))
		task.Ports = append(task.Ports, metrics.Port{Name: p.PortName, DiscoveryName: p.DiscoveryName, Protocol: p.Protocol})
	}
	c.store.SetServices("prod", services)
	callee, caller := c.task(t, "prod/backend/1", "", ports...), c.task(t, "prod/web/1", "")

	for path, n := range map[string]int{"/": 21, "/slow": 1, "/none": 5, "/wrong": 3, "/busy": 1} {
		for range n {
			send(t, http.MethodGet, at["web"], path)
		}
	}
	for range 4 {
		if err := callGRPC(t.Context(), at["rpc"]); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := callTCP(at["raw"]); err != nil {
			t.Fatal(err)
		}
	}
	open, err := net.Dial("tcp", vip(at["raw"]))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	greeting := make([]byte, len("welcome\n"))
	if _, err := open.Read(greeting); err != nil {
		t.Fatal(err)
	}
	if code, _ := send(t, http.MethodGet, at["bad"], "/"); code != http.StatusServiceUnavailable {
		t.Errorf("a wrong certificate: %d", code)
	}
	for range 3 { // a client of the ingress that speaks TLS 1.2
		if _, err := shown(ports[0].ListenerPort, &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true}); err == nil { //nolint:gosec // what must be refused
			t.Fatal("TLS 1.2 is accepted")
		}
	}

	in, out := sampled(task, callee), sampled(metrics.Task{Namespace: "prod", Service: "web", Cluster: "east"}, caller)
	wantIn := map[string]float64{
		"requests_total{web}": 33, "requests_total{rpc}": 4, "requests_total{raw}": 0, "grpc_requests_total{rpc}": 4, "grpc_requests_total{web}": 0,
		"new_connections_total{raw}": 3, "active_connections{raw}": 1, "processed_bytes_total{raw}": 2*18 + 8,
		"client_tls_negotiation_errors_total{web}": 3, "client_tls_negotiation_errors_total{rpc}": 0,
	}
	wantOut := map[string]float64{
		"target_responses_total{web2xx}": 22, "target_responses_total{web3xx}": 0, "target_responses_total{web4xx}": 5, "target_responses_total{web5xx}": 4, "target_response_seconds{web}": 31,
		"targets{web}": 1, "target_processed_bytes_total{raw}": 2*18 + 8, "target_response_seconds{web}1": 30,
		"target_tls_negotiation_errors_total{bad}": caller.Stats(t)["cluster.bad.prod.ssl.fail_verify_san"], "target_tls_negotiation_errors_total{web}": 0,
	}
	if wantOut["target_tls_negotiation_errors_total{bad}"] == 0 {
		t.Error("no handshake has failed")
	}
	for _, side := range []struct {
		task metrics.Task
		src  metrics.Source
		want map[string]float64
	}{{task, in, wantIn}, {metrics.Task{Namespace: "prod", Service: "web", Cluster: "east"}, out, wantOut}} {
		eventually(t, func() error { // Envoy gathers its times every 5 s
			got := scrape(t, side.task, side.src)
			for k, v := range side.want {
				if n, ok := got["patchbay_sidecar_"+k]; !ok || n != v {
					return fmt.Errorf("%s is %v, want %v", k, n, v)
				}
			}
			for k := range got { // what was repeated is counted once, by the name that it was called by
				if strings.Contains(k, "retry") || strings.Contains(k, "ternal") {
					return fmt.Errorf("%s is no name of a service", k)
				}
			}
			if n := got["patchbay_sidecar_new_connections_total{web}"]; side.task.Service == "backend" && (n < 4 || n > 34) {
				return fmt.Errorf("%v connections to web", n)
			}
			return nil
		})
	}

	var lines bytes.Buffer
	r := &metrics.Reporter{Task: task, Source: out, To: &lines, Log: slog.New(slog.DiscardHandler)}
	r.Report(t.Context(), time.Now())
	web := reported(t, lines.Bytes())["TargetDiscoveryName=web"]
	for name, want := range map[string]any{"HTTPCode_Target_2XX_Count": 22.0, "HTTPCode_Target_3XX_Count": nil, "HTTPCode_Target_4XX_Count": 5.0, "HTTPCode_Target_5XX_Count": 4.0,
		"RequestCountPerTarget": 31.0, "ServiceName": "backend", "ClusterName": "east"} {
		if web[name] != want {
			t.Errorf("%s is %v, want %v", name, web[name], want)
		}
	}
	took := web["TargetResponseTime"].(map[string]any)
	if took["Count"] != 31.0 || took["Max"].(float64) < 50 || took["Sum"].(float64) < 120 {
		t.Errorf("TargetResponseTime is %v", took)
	}
	// The next line has what came since.
	lines.Reset()
	send(t, http.MethodGet, at["web"], "/none")
	eventually(t, func() error {
		r.Report(t.Context(), time.Now())
		if next := reported(t, lines.Bytes())["TargetDiscoveryName=web"]; next["HTTPCode_Target_4XX_Count"] != 1.0 || next["HTTPCode_Target_2XX_Count"] != nil {
			return fmt.Errorf("%v", next)
		}
		return nil
	})
	if strings.Contains(lines.String(), "=bad") || strings.Contains(lines.String(), `"TargetDiscoveryName":"raw"`) {
		t.Errorf("what has nothing new has a line:\n%s", lines.String())
	}
}

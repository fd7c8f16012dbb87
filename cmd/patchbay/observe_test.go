package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"patchbay/agentapi"
	"patchbay/config"
	"patchbay/controlplane/answers"
	"patchbay/internal/envoytest"
)

// hostNamed is the address that laxRegistry turns into a host name.
const hostNamed = "10.9.9.9"

// laxRegistry stands between discovery and a registry: its first answer is an
// error, and it lets through what ours and AWS's refuse to register.
func laxRegistry(t *testing.T, to string) string {
	t.Helper()
	target, err := url.Parse("http://" + to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		body, err := io.ReadAll(r.Body)
		body = bytes.ReplaceAll(body, []byte(`"`+hostNamed+`"`), []byte(`"db.example.com"`))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Length", fmt.Sprint(len(body)))
		return err
	}
	var failed atomic.Bool
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	s := &http.Server{Addr: addr, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failed.CompareAndSwap(false, true) {
			http.Error(w, `{"__type":"InternalFailure"}`, http.StatusInternalServerError)
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	go s.ListenAndServe()
	t.Cleanup(func() { s.Close() })
	return "http://" + addr
}

// register writes instances into a registry as a user of the API would.
func register(t *testing.T, registry, service string, instances map[string]map[string]string) {
	t.Helper()
	api := servicediscovery.New(servicediscovery.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + registry), Credentials: awscredentials.NewStaticCredentialsProvider("x", "y", ""),
	})
	_, err := api.CreateHttpNamespace(t.Context(), &servicediscovery.CreateHttpNamespaceInput{Name: aws.String("demo")})
	if _, there := errors.AsType[*types.NamespaceAlreadyExists](err); err != nil && !there {
		t.Fatal(err)
	}
	var id *string
	envoytest.Eventually(t, 10*time.Second, func() error {
		all, err := api.ListNamespaces(t.Context(), &servicediscovery.ListNamespacesInput{})
		if err != nil || len(all.Namespaces) == 0 {
			return fmt.Errorf("no namespace yet: %v", err)
		}
		id = all.Namespaces[0].Id
		return nil
	})
	made, err := api.CreateService(t.Context(), &servicediscovery.CreateServiceInput{Name: aws.String(service), NamespaceId: id})
	var in *string
	if there, is := errors.AsType[*types.ServiceAlreadyExists](err); is {
		in = there.ServiceId
	} else if err != nil {
		t.Fatal(err)
	} else {
		in = made.Service.Id
	}
	for name, attributes := range instances {
		if _, err := api.RegisterInstance(t.Context(), &servicediscovery.RegisterInstanceInput{ServiceId: in, InstanceId: aws.String(name), Attributes: attributes}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func (p *plane) get(path string) []byte {
	p.t.Helper()
	status, body := p.ask(path)
	if status != http.StatusOK {
		p.t.Fatalf("%s: %d\n%s", path, status, body)
	}
	return body
}

func (p *plane) ask(path string) (status int, body []byte) {
	p.t.Helper()
	resp, err := http.Get("http://" + p.cfg.Admin.Listen + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, body
}

func (p *plane) metrics() map[string]*dto.MetricFamily {
	p.t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(p.get("/metrics")))
	if err != nil {
		p.t.Fatal(err)
	}
	return families
}

// value is that of the metric of a family that has all of the labels.
func value(f *dto.MetricFamily, labels map[string]string) float64 {
	for _, m := range f.GetMetric() {
		found := 0
		for _, l := range m.GetLabel() {
			if labels[l.GetName()] == l.GetValue() {
				found++
			}
		}
		if found == len(labels) {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return -1
}

// TestMalformedInstances: what can't be called is skipped and counted by its
// reason, in status and metrics; the rest goes out. The page of metrics lists
// exactly what there is.
func TestMalformedInstances(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "y")
	host := startPlane(t)
	registry := host.cfg.Registry.Listen
	register(t, registry, "legacy", map[string]map[string]string{
		"good":        {"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": "80"},
		"no-address":  {"stage": "beta"},
		"host-name":   {"AWS_INSTANCE_IPV4": hostNamed, "AWS_INSTANCE_PORT": "80"},
		"no-port":     {"AWS_INSTANCE_IPV4": "10.0.0.2"},
		"unspecified": {"AWS_INSTANCE_IPV4": "0.0.0.0", "AWS_INSTANCE_PORT": "80"},
	})
	queue := startQueue(t)
	p := startPlane(t, func(c *config.Config) {
		c.Registry, c.CloudMap = nil, &config.CloudMap{Endpoint: laxRegistry(t, registry), Region: "us-east-1", Events: queue.config()}
		c.Replicas = &config.Replicas{Listen: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	})
	var namespaces []answers.Namespace
	if err := json.Unmarshal(p.get("/api/v1/namespaces"), &namespaces); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"no_address": 1, "host_name": 1, "bad_port": 1, "unspecified_address": 1}
	s := namespaces[0].Services[0]
	if s.Name != "legacy.demo" || s.Endpoints != 1 || fmt.Sprint(s.Skipped) != fmt.Sprint(want) || s.Source != "live" || s.AgeSeconds == nil {
		t.Errorf("%+v", s)
	}
	p.offerTLS()
	p.nack()
	var families map[string]*dto.MetricFamily
	envoytest.Eventually(t, 10*time.Second, func() error {
		families = p.metrics()
		if value(families["patchbay_leaves"], map[string]string{"state": "ok"}) != 1 || value(families["patchbay_xds_streams_ended_total"], nil) < 1 {
			return fmt.Errorf("no leaf, or no ended stream yet: %v %v", families["patchbay_leaves"], families["patchbay_xds_streams_ended_total"])
		}
		return nil
	})
	for reason, n := range want {
		for _, f := range []string{"patchbay_instances_skipped", "patchbay_instances_skipped_total"} {
			if got := value(families[f], map[string]string{"reason": reason}); got != float64(n) {
				t.Errorf("%s of %s is %v", f, reason, got)
			}
		}
	}
	for name, want := range map[string]float64{"patchbay_ready": 1, "patchbay_endpoints": 2, "patchbay_issuer_up": 1, "patchbay_xds_nacks_total": 1} {
		if got := value(families[name], nil); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if left := value(families["patchbay_survivable_outage_seconds"], nil); left < 3000 || left > 3600 {
		t.Errorf("an outage of %v s can be survived with leaves of one hour", left)
	}
	samePage(t, families, host.silence())
}

// silence lets leases run out, and returns the registry's metrics then.
func (p *plane) silence() map[string]*dto.MetricFamily {
	p.t.Helper()
	leased := map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.9", "AWS_INSTANCE_PORT": "80", "PATCHBAY_LEASE_SECONDS": "1"}
	register(p.t, p.cfg.Registry.Listen, "silent", map[string]map[string]string{"a": leased, "b": leased})
	var families map[string]*dto.MetricFamily
	envoytest.Eventually(p.t, 20*time.Second, func() error {
		families = p.metrics()
		for _, name := range []string{"patchbay_registry_lease_expirations_total", "patchbay_registry_lease_holds_total"} {
			if value(families[name], nil) < 1 {
				return fmt.Errorf("%s is not counted yet", name)
			}
		}
		return nil
	})
	return families
}

// TestUnknownIssuer: a port that asks for TLS from nobody is refused, and the
// agent hears why.
func TestUnknownIssuer(t *testing.T) {
	p := startPlane(t)
	if r := p.declareTLS("nobody"); r.GetRegistered() || !strings.Contains(r.GetError(), `issuer "nobody", which is not among issuers of the control plane's file; configured: default`) {
		t.Errorf("%v", r)
	}
}

// offerTLS makes a task offer a service with TLS.
func (p *plane) offerTLS() {
	p.t.Helper()
	if r := p.declareTLS("default"); !r.GetRegistered() {
		p.t.Fatalf("not registered: %s", r.GetError())
	}
}

// declareTLS is the agent of a task that offers a service with TLS.
func (p *plane) declareTLS(issuer string) *agentapi.Registration {
	p.t.Helper()
	k, _ := p.join("backend", "backend")
	send(p.t, k, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Ports: []*agentapi.Port{{
		PortName: "web", DiscoveryName: "backend", AppProtocol: "http", ContainerPort: 8080, IngressPort: 15010, Tls: &agentapi.Tls{Issuer: issuer},
		ClientAliases: []*agentapi.ClientAlias{{DnsName: "backend.demo", Port: 8080}},
	}}}}})
	send(p.t, k, &agentapi.Up{Message: &agentapi.Up_Health{Health: &agentapi.Health{EnvoyReady: true, Ports: map[string]agentapi.Health_State{"web": agentapi.Health_HEALTHY}}}})
	send(p.t, k, &agentapi.Up{Message: &agentapi.Up_Traffic{Traffic: &agentapi.Traffic{
		Called: []*agentapi.Called{{Service: "legacy.demo", Requests: 1}}, Served: &agentapi.Served{},
	}}})
	return receive(p.t, k, (*agentapi.Down).GetRegistration)
}

// samePage holds docs/reference/metrics.md against what is exposed, both ways.
func samePage(t *testing.T, exposed ...map[string]*dto.MetricFamily) {
	t.Helper()
	families := map[string]*dto.MetricFamily{}
	for _, e := range exposed {
		maps.Copy(families, e)
	}
	page, err := os.Open("../../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	row := regexp.MustCompile("^\\| `(patchbay_[a-z0-9_]+)` \\| (counter|gauge|histogram) \\|([^|]*)\\|([^|]*)\\| [^|]+ \\|$")
	listed := map[string]bool{}
	for lines := bufio.NewScanner(page); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "| `patchbay_") {
			continue
		}
		m := row.FindStringSubmatch(lines.Text())
		if m == nil {
			t.Errorf("not in the form of a row: %s", lines.Text())
			continue
		}
		listed[m[1]] = true
		f := families[m[1]]
		if f == nil {
			t.Errorf("the page lists %s; serve does not expose it", m[1])
			continue
		}
		if kind := strings.ToLower(f.GetType().String()); kind != m[2] {
			t.Errorf("%s is a %s; the page says %s", m[1], kind, m[2])
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		if got := strings.Join(labels, ", "); got != strings.TrimSpace(m[4]) {
			t.Errorf("%s has the labels %q; the page says %q", m[1], got, m[4])
		}
	}
	for name := range families {
		if strings.HasPrefix(name, "patchbay_") && !listed[name] {
			t.Errorf("docs/reference/metrics.md lacks %s", name)
		}
	}
}

package hops

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/admin/api"
	"patchbay/agentapi"
	"patchbay/diagnose"
	"patchbay/diagnose/verify"
	"patchbay/mesh/policy"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	client  = "demo/frontend/f1"
	server  = "demo/backend/b1"
	address = "http://backend.demo:8080"
)

// healthy is a mesh whose client was looked into, and in which all is well.
func healthy() *diagnose.Facts {
	sidecar := func(node string, ports ...api.PortStatus) api.Sidecar {
		return api.Sidecar{
			Node: node, Ports: ports, Stream: &api.Stream{Opened: noon.Add(-time.Hour)},
			Agent: &api.Agent{EnvoyVersion: "1.40.0", Wiring: "redirect", Since: noon.Add(-time.Hour), LastHealth: noon, EnvoyReady: true, NamesCurrent: true},
		}
	}
	service := api.Service{
		Name: "backend.demo", Protocol: "http", Aliases: []api.Alias{{DNSName: "backend.demo", Port: 8080, VIP: "127.128.1.1"}}, Endpoints: map[string]int{"HEALTHY": 1}, Encrypted: 1, Source: "live",
		TLS: &api.TLS{Issuer: "default", Names: []string{"backend.demo"}, Serial: "ab", NotAfter: noon.Add(time.Hour)},
	}
	return &diagnose.Facts{
		Now: noon,
		Status: &api.Status{
			At: noon, Ready: true, Services: []api.Service{service}, Namespaces: []api.Namespace{{Name: "demo", Synced: true, Listed: noon}}, Issuers: []api.Issuer{{Name: "default", Roots: 1}},
			Sidecars: []api.Sidecar{sidecar(server, api.PortStatus{PortName: "web", Service: "backend.demo", Health: "HEALTHY", Registered: true}), sidecar(client)},
		},
		Tasks: map[string]*api.Task{client: {
			At: noon, Hosts: map[string]string{"backend.demo": "127.128.1.1"},
			Listeners: []api.TaskListener{{Name: "egress-127.128.1.1-8080", State: api.Active}},
			Routes:    []api.TaskRoute{{Name: "egress-127.128.1.1-8080", Clusters: []string{"backend.demo"}}},
			Clusters:  []api.TaskCluster{{Name: "backend.demo", State: api.Active, TLS: true, Trust: "bundle/default", Hosts: []api.TaskHost{{Address: "10.0.0.1:15000"}}}},
		}},
		Details: map[string]*api.ServiceDetail{"backend.demo": {Service: service, Instances: []api.Endpoint{{Address: "10.0.0.1:15000", TLS: true, Health: "HEALTHY"}}}},
		Ports:   map[string]verify.Endpoint{"10.0.0.1:15000": {Service: "backend.demo", OK: true, Checks: []verify.Check{{ID: "tls13", Outcome: verify.Pass}}}},
	}
}

// TestEachHop spoils one hop each and wants its code, at that hop.
func TestEachHop(t *testing.T) {
	for _, c := range []struct {
		want, hop, client, url string
		spoil                  func(*diagnose.Facts)
	}{
		{"", "", client, address, func(*diagnose.Facts) {}},
		{"", "", "frontend", "backend.demo:8080", func(*diagnose.Facts) {}},
		{"", "", client, address, func(f *diagnose.Facts) { // a strict task
			t := f.Tasks[client]
			t.Hosts["backend.demo"], t.Listeners[0].Name, t.Routes[0].Name = "127.255.0.1", "egress-127.255.0.1-8080", "egress-127.255.0.1-8080"
		}},
		{"PB1001", "control plane", client, address, func(f *diagnose.Facts) { f.Status, f.Unreachable = nil, "connection refused" }},
		{"PB1601", "client", "worker", address, func(*diagnose.Facts) {}},
		{"PB1301", "client", client, address, func(f *diagnose.Facts) { f.Status.Sidecars[1].Stream = nil }},
		{"PB1602", "name", client, "http://bakend.demo:8080", func(*diagnose.Facts) {}},
		{"PB1603", "name", client, "http://backend.demo:81", func(*diagnose.Facts) {}},
		{"PB1607", "name", client, address, func(f *diagnose.Facts) {
			f.Status.Services[0].External, f.Status.Services[0].Callers = []string{"api.example:443"}, []string{"till"}
		}},
		{"PB1514", "endpoints", client, address, func(f *diagnose.Facts) {
			f.Status.Services[0].External, f.Tasks[client].Clusters[0].Hosts[0].Address = []string{"api.example:443"}, "127.255.0.7:443"
		}},
		{"PB1606", "name", client, address, func(f *diagnose.Facts) { f.Status.Sidecars[1].Agent.Dependencies = []string{"db"} }},
		{"", "", client, address, func(f *diagnose.Facts) { f.Status.Sidecars[1].Agent.Dependencies = []string{"backend", "db"} }},
		{"PB1203", "endpoints", client, address, func(f *diagnose.Facts) {
			f.Status.Services[0].Endpoints, f.Status.Services[0].TLS.Serial = map[string]int{}, ""
			p := &f.Status.Sidecars[0].Ports[0]
			p.Health, p.Registered, p.Why = "UNHEALTHY", false, "Envoy waits for its certificate"
		}},
		{"PB1402", "name", client, address, func(f *diagnose.Facts) { f.Tasks[client].Hosts["backend.demo"] = "10.9.9.9" }},
		{"PB1403", "name", client, address, func(f *diagnose.Facts) { delete(f.Tasks[client].Hosts, "backend.demo") }},
		{"PB1604", "listener", client, address, func(f *diagnose.Facts) { f.Tasks[client].Listeners = nil }},
		{"PB1304", "listener", client, address, func(f *diagnose.Facts) {
			f.Tasks[client].Listeners[0].State, f.Tasks[client].Listeners[0].Error = api.Broken, "cannot bind"
		}},
		{"PB1303", "listener", client, address, func(f *diagnose.Facts) { f.Tasks[client].Listeners[0].State = api.Warming }},
		{"PB1604", "route", client, address, func(f *diagnose.Facts) { f.Tasks[client].Routes[0].Clusters = []string{"other.demo"} }},
		{"PB1604", "cluster", client, address, func(f *diagnose.Facts) { f.Tasks[client].Clusters = nil }},
		{"PB1303", "cluster", client, address, func(f *diagnose.Facts) { f.Tasks[client].Clusters[0].State = api.Warming }},
		{"PB1604", "endpoints", client, address, func(f *diagnose.Facts) { f.Tasks[client].Clusters[0].Hosts = nil }},
		{"PB1502", "endpoints", client, address, func(f *diagnose.Facts) { f.Status.Services[0].Endpoints = map[string]int{"UNHEALTHY": 1} }},
		{"PB1209", "tls", client, address, func(f *diagnose.Facts) {
			f.Ports["10.0.0.1:15000"] = verify.Endpoint{Observation: verify.Observation{Address: "10.0.0.1:15000"}, Service: "backend.demo", Checks: []verify.Check{{ID: "san", Outcome: verify.Fail, Detail: "DNS names other.demo"}}}
		}},
		{"PB1210", "certificate", client, address, func(f *diagnose.Facts) {
			f.Status.Services[0].MutualTLS = &policy.MutualTLS{Mode: policy.Required}
		}},
		{"PB1510", "authorization", client, address + "/v2", func(f *diagnose.Facts) {
			f.Status.Services[0].Authorization = &policy.Authorization{Rules: []policy.Rule{{From: []string{"frontend"}, Prefixes: []string{"/v1"}}}}
			f.Status.Callers = certified
		}},
		{"PB1510", "authorization", client, address + "/v1/%2e%2e/admin", func(f *diagnose.Facts) {
			f.Status.Services[0].Authorization = &policy.Authorization{Rules: []policy.Rule{{From: []string{"frontend"}, Prefixes: []string{"/v1"}}}}
			f.Status.Callers = certified
		}},
		{"PB1510", "authorization", client, address, func(f *diagnose.Facts) { // it has no certificate yet
			f.Status.Services[0].MutualTLS = &policy.MutualTLS{Mode: policy.Permissive}
			f.Status.Services[0].Authorization = &policy.Authorization{Rules: []policy.Rule{{From: []string{"frontend"}}}}
		}},
		{"PB1401", "application", client, address, func(f *diagnose.Facts) { f.Status.Sidecars[0].Ports[0].Health = "UNHEALTHY" }},
	} {
		t.Run(c.want+" "+c.hop, func(t *testing.T) {
			f := healthy()
			c.spoil(f)
			w, err := Explain(f, c.client, c.url)
			if err != nil {
				t.Fatal(err)
			}
			last := w.Hops[len(w.Hops)-1]
			switch {
			case c.want == "":
				if w.Finding != nil || len(w.Hops) != 9 || w.URL != address {
					t.Errorf("%+v %+v", w.Hops, w.Finding)
				}
			case w.Finding == nil || w.Finding.Code != c.want || last.Name != c.hop || last.State != Fails || len(w.Finding.Fix) == 0 || w.Finding.Title == "":
				t.Errorf("%+v %+v", w.Hops, w.Finding)
			}
		})
	}
	if _, err := Explain(healthy(), client, "http://backend.demo:99999"); err == nil {
		t.Error(errors.New("a port that can't be is asked for"))
	}
}

// certified is the certificate of the client's workload.
var certified = []api.Caller{{Workload: "demo/frontend", SPIFFEID: "spiffe://d/workload/demo/frontend", TLS: api.TLS{Issuer: "default", Serial: "cd", NotAfter: noon.Add(time.Hour)}}}

// TestWhoMayCall: what a service asks of its callers has hops of its own.
func TestWhoMayCall(t *testing.T) {
	for _, c := range []struct {
		mode, rules, certificate, authorization string
		has, dryRun                             bool
	}{
		{mode: policy.Off}, {mode: policy.Permissive, certificate: "shows none"},
		{mode: policy.Required, has: true, certificate: "required: the client shows spiffe://d/workload/demo/frontend"},
		{mode: policy.Required, has: true, rules: "frontend", certificate: "shows", authorization: "rules[0] allows demo/frontend /"},
		{mode: policy.Permissive, rules: "*", certificate: "shows none", authorization: "rules[0] allows a caller without a certificate /"},
		{mode: policy.Required, has: true, rules: "batch", dryRun: true, certificate: "shows", authorization: "dry run: no rule allows demo/frontend /"},
	} {
		f := healthy()
		s := &f.Status.Services[0]
		s.MutualTLS = &policy.MutualTLS{Mode: c.mode}
		if c.rules != "" {
			s.Authorization = &policy.Authorization{DryRun: c.dryRun, Rules: []policy.Rule{{From: []string{c.rules}}}}
		}
		if c.has {
			f.Status.Callers = certified
		}
		w, err := Explain(f, client, address)
		if err != nil || w.Finding != nil {
			t.Errorf("%+v: %v %+v", c, err, w.Finding)
		}
		said := map[string]string{}
		for _, h := range w.Hops {
			said[h.Name] = h.Detail
		}
		for hop, want := range map[string]string{"certificate": c.certificate, "authorization": c.authorization} {
			if got, there := said[hop]; there != (want != "") || !strings.Contains(got, want) {
				t.Errorf("%+v: hop %s says %q", c, hop, got)
			}
		}
	}
}

// TestFewAreWell: below the panic threshold, all endpoints are called.
func TestFewAreWell(t *testing.T) {
	for threshold, want := range map[float64]string{0: "1 of 3 are called; not ", 50: "1 of 3 are well; not 10.0.0.2:15000: failed_active_health_check; 10.0.0.3:15000: failed_active_health_check; so few that all are called (panicThreshold 50)"} {
		f := healthy()
		f.Policy = []policy.Word{{Member: "loadBalancing.panicThreshold", Value: threshold, From: "service"}}
		hosts := &f.Tasks[client].Clusters[0].Hosts
		for _, a := range []string{"10.0.0.2:15000", "10.0.0.3:15000"} {
			*hosts = append(*hosts, api.TaskHost{Address: a, Failing: []string{"failed_active_health_check"}})
		}
		w, err := Explain(f, client, address)
		if err != nil || !slices.ContainsFunc(w.Hops, func(h Hop) bool { return h.Name == "endpoints" && strings.HasPrefix(h.Detail, want) }) {
			t.Errorf("threshold %v: %+v, %v", threshold, w, err)
		}
	}
}

// TestCalled: what a real call adds to hops that look right.
func TestCalled(t *testing.T) {
	for _, c := range []struct {
		want string
		out  agentapi.Outcome
	}{
		{"", agentapi.Outcome{Status: 200}},
		{"", agentapi.Outcome{Status: 404}},
		{"PB1506", agentapi.Outcome{Status: 500}},
		{"PB1507", agentapi.Outcome{Envoy: true, Status: 504, Body: "upstream request timeout"}},
		{"PB1507", agentapi.Outcome{Error: "context deadline exceeded"}},
		{"PB1510", agentapi.Outcome{Envoy: true, Status: 403, Body: "RBAC: access denied"}},
		{"PB1208", agentapi.Outcome{Envoy: true, Status: 503, Body: "TLS_error: CERTIFICATE_VERIFY_FAILED: verify cert failed"}},
		{"PB1209", agentapi.Outcome{Envoy: true, Status: 503, Body: "TLS_error: CERTIFICATE_VERIFY_FAILED: verify SAN list"}},
		{"PB1504", agentapi.Outcome{Envoy: true, Status: 503, Body: "TLS_error:|268435703:SSL routines"}},
		{"PB1503", agentapi.Outcome{Envoy: true, Status: 503, Body: "upstream connect error: connection refused"}},
		{"PB1605", agentapi.Outcome{Error: "EOF"}},
	} {
		w := &Walk{Service: "backend.demo"}
		if Called(w, c.out, nil); (w.Finding == nil) != (c.want == "") || w.Finding != nil && (w.Finding.Code != c.want || w.Finding.Title == "" || w.Finding.Severity == "") {
			t.Errorf("want %q of %+v, got %+v", c.want, c.out, w.Finding)
		}
	}
	w := &Walk{Finding: &diagnose.Finding{Code: "PB1401"}}
	if Called(w, agentapi.Outcome{Error: "EOF"}, nil); w.Finding.Code != "PB1401" || !strings.Contains(w.Finding.Evidence[0], "EOF") {
		t.Errorf("%+v", w.Finding)
	}
}

// TestOutside: of a target outside the mesh, the client's Envoy alone knows how
// handshakes went, and what lies behind is not the mesh's.
func TestOutside(t *testing.T) {
	const handshakes, wrongCA, wrongName = "cluster.backend.demo.ssl.handshake", "cluster.backend.demo.ssl.fail_verify_error", "cluster.backend.demo.ssl.fail_verify_san"
	refused := agentapi.Outcome{Envoy: true, Status: 503, Body: "upstream connect error: connection failure, TLS_error: CERTIFICATE_VERIFY_FAILED"}
	for _, c := range []struct {
		stats, grown map[string]uint64
		out          *agentapi.Outcome
		state, says  string
		want         string
	}{
		{map[string]uint64{wrongCA: 3}, nil, nil, Unseen, "0 handshakes stood; 3 handshakes failed, its certificate does not chain", ""},
		{map[string]uint64{handshakes: 2}, nil, nil, fine, "2 handshakes stood, none failed", ""},
		{map[string]uint64{}, nil, nil, Unseen, "no connection yet", ""},
		{map[string]uint64{}, map[string]uint64{wrongCA: 3}, &refused, Fails, "api.example:443: its certificate does not chain", "PB1208"},
		{map[string]uint64{wrongCA: 9}, map[string]uint64{wrongName: 1}, &refused, Fails, "none of the names", "PB1209"},
		{map[string]uint64{wrongCA: 9}, map[string]uint64{handshakes: 1}, &agentapi.Outcome{Status: 200}, Unseen, "9 handshakes failed", ""},
	} {
		f := healthy()
		f.Status.Services[0].External, f.Tasks[client].Stats = []string{"api.example:443"}, c.stats
		w, err := Explain(f, client, address)
		if err != nil || w.Finding != nil {
			t.Fatalf("%v %+v", err, w.Finding)
		}
		if c.out != nil {
			Called(w, *c.out, c.grown)
		}
		last := w.Hops[len(w.Hops)-1]
		if last.Name != "tls" || last.State != c.state || !strings.Contains(last.Detail, c.says) {
			t.Errorf("want %q, got %+v", c.says, last)
		}
		switch {
		case (w.Finding == nil) != (c.want == ""):
			t.Errorf("want %q, got %+v", c.want, w.Finding)
		case w.Finding != nil && (w.Finding.Code != c.want || !strings.Contains(strings.Join(w.Finding.Fix, " "), "sni") || len(w.Finding.Evidence) != 2):
			t.Errorf("want %q, got %+v", c.want, w.Finding)
		}
	}
}

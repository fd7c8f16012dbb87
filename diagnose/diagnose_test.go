package diagnose

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/admin/api"
	"patchbay/diagnose/verify"
	"patchbay/mesh/policy"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// healthy is a mesh in which all is well: two sidecars, a service with TLS.
func healthy() *Facts {
	types := func() []api.TypeSync {
		return []api.TypeSync{{Type: "cds", State: api.Synced, Resources: 2}, {Type: "lds", State: api.Synced, Resources: 3}}
	}
	agent := func() *api.Agent {
		return &api.Agent{Version: "1", EnvoyVersion: "1.40.0", Wiring: "redirect", Since: noon.Add(-time.Hour), LastHealth: noon.Add(-time.Second), EnvoyReady: true, NamesCurrent: true}
	}
	stream := func() *api.Stream {
		return &api.Stream{View: "demo/redirect/", Opened: noon.Add(-time.Hour), Types: types()}
	}
	return &Facts{Now: noon, Address: "http://127.0.0.1:18002", Status: &api.Status{
		At: noon, Started: noon.Add(-time.Hour), Ready: true, SurvivableSeconds: new(86400.0), Replica: "one",
		Sidecars: []api.Sidecar{
			{
				Node: "demo/backend/b1", Agent: agent(), Stream: stream(), LeafNotAfter: noon.Add(24 * time.Hour),
				Ports: []api.PortStatus{{PortName: "web", Service: "backend.demo", Health: "HEALTHY", Registered: true}},
			},
			{Node: "demo/frontend/f1", Agent: agent(), Stream: stream()},
		},
		Services: []api.Service{{
			Name: "backend.demo", Protocol: "http", Aliases: []api.Alias{{DNSName: "backend.demo", Port: 8080, VIP: "127.128.1.1"}},
			Endpoints: map[string]int{"HEALTHY": 1}, Encrypted: 1, Source: "live",
			TLS: &api.TLS{Issuer: "default", Names: []string{"backend.demo"}, Serial: "ab", NotAfter: noon.Add(24 * time.Hour)},
		}},
		Namespaces: []api.Namespace{{Name: "demo", Synced: true, Listed: noon}},
		Issuers:    []api.Issuer{{Name: "default", Roots: 1, LastSeen: noon}},
	}}
}

func TestHealthyHasNoFinding(t *testing.T) {
	if got := Check(healthy()); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// TestTargetsOutsideHaveNoCertificate that the mesh issued, and none is counted.
func TestTargetsOutsideHaveNoCertificate(t *testing.T) {
	f := healthy()
	for _, want := range []string{"1 issuer, certificates of 1 service", "1 issuer, certificates of 0 services"} {
		if !slices.ContainsFunc(Areas(f), func(a Area) bool { return a.Seen == want }) {
			t.Errorf("%+v lacks %q", Areas(f), want)
		}
		f.Status.Services[0].External = []string{"api.example:443"}
	}
}

// seen adds a handshake with the service's endpoint.
func seen(f *Facts, o verify.Observation) {
	o.Address = "10.0.0.1:15000"
	d := &api.ServiceDetail{Service: f.Status.Services[0], Instances: []api.Endpoint{{Address: o.Address, TLS: true, Health: "HEALTHY"}}}
	v := verify.Judge(o, Expected(d), noon)
	v.Service = d.Name
	f.Details, f.Ports = map[string]*api.ServiceDetail{d.Name: d}, map[string]verify.Endpoint{o.Address: v}
}

// TestRootCauseFirst breaks one thing each and wants its code before any
// consequence of it.
func TestRootCauseFirst(t *testing.T) {
	const nack = "Proto constraint validation failed"
	rows := []struct {
		want, subject, cause string
		spoil                func(*Facts)
	}{
		{"PB1108", "backend.demo", "no client alias", func(f *Facts) { f.Status.Services[0].Aliases = nil }},
		{"PB1309", "demo/backend/b1", "1024 MB", func(f *Facts) {
			f.Tasks = map[string]*api.Task{"demo/backend/b1": {At: noon, Memory: 1 << 30}}
		}},
		{"PB1505", "demo/frontend/f1", "10.0.0.9:15000", func(f *Facts) {
			f.Tasks = map[string]*api.Task{"demo/frontend/f1": {At: noon, Clusters: []api.TaskCluster{{Name: "backend.demo", Hosts: []api.TaskHost{{Address: "10.0.0.9:15000", Failing: []string{"failed_outlier_check"}}}}}}}
		}},
		{"PB1514", "api.demo", "api.example:443 resolves to 127.128.1.1:8080", func(f *Facts) {
			f.Status.Services = append(f.Status.Services, api.Service{Name: "api.demo", External: []string{"api.example:443"}, Aliases: []api.Alias{{DNSName: "api.demo", Port: 8080}}})
			f.Tasks = map[string]*api.Task{"demo/frontend/f1": {At: noon, Clusters: []api.TaskCluster{{Name: "api.demo", Hosts: []api.TaskHost{{Address: "192.0.2.1:443"}, {Address: "127.128.1.1:8080"}}}}}}
		}},
		{"PB1001", "18002", "refused", func(f *Facts) { f.Status, f.Unreachable = nil, "connection refused" }},
		{"PB1002", "18002", "token", func(f *Facts) { f.Status, f.Denied = nil, "send the admin token" }},
		{"PB1003", "one", "roots", func(f *Facts) { f.Status.Ready, f.Status.Reasons = false, []string{"issuer: roots"} }},
		{"PB1004", "namespace demo", "refused", func(f *Facts) {
			n := &f.Status.Namespaces[0]
			n.Stale, n.Error = true, "connection refused"
			f.Status.Services[0].Error, f.Status.Services[0].Source = "connection refused", "last-known-good"
		}},
		{"PB1005", "namespace demo", "too many", func(f *Facts) { f.Status.Namespaces[0].Error = "ThrottlingException: Rate exceeded" }},
		{"PB1006", "namespace demo", "servicediscovery:ListServices", func(f *Facts) {
			f.Status.Namespaces[0].Error = "AccessDeniedException: User is not authorized to perform: servicediscovery:ListServices on resource: *"
		}},
		{"PB1006", "namespace demo", "servicediscovery:ListServices", func(f *Facts) {
			f.Status.Namespaces[0].Error = `ListServices: the role of this process may not servicediscovery:ListServices on *; this statement in its policy allows it: {"Effect":"Allow","Action":"servicediscovery:ListServices","Resource":"*"}`
		}},
		{"PB1007", "one", "ends in", func(f *Facts) { f.Status.SurvivableSeconds = new(20.0) }},
		{"PB1008", "one", "ahead of", func(f *Facts) { f.Status.At = noon.Add(time.Hour) }},
		{"PB1009", "backend.demo", "vanished", func(f *Facts) { f.Status.Services[0].Held = 3 }},
		{"PB1010", "backend.demo", "1 connected task to offer it", func(f *Facts) { f.Status.Services[0].Error = "DiscoverInstances: ServiceNotFound: no service" }},
		{"PB1011", "acm-pca", "refused", func(f *Facts) {
			f.AWS = &api.AWS{Calls: []api.AWSCall{{Action: "acm-pca:GetCertificate", Outcome: api.Failed, Detail: "connection refused"}}}
		}},
		{"PB1011", "data-servicediscovery.eu-west-1.amazonaws.com", "no such host", func(f *Facts) {
			f.AWS = &api.AWS{Names: map[string]string{"servicediscovery.eu-west-1.amazonaws.com": "", "data-servicediscovery.eu-west-1.amazonaws.com": "no such host"}}
		}},
		{"PB1006", "acm-pca:IssueCertificate", "may not", func(f *Facts) {
			f.AWS = &api.AWS{Calls: []api.AWSCall{{Action: "acm-pca:IssueCertificate", Outcome: api.Refused, Statement: "{}"}, {Action: "ecs:DescribeTasks", Outcome: api.Allowed}, {Action: "x:Y", Outcome: api.Untried}}}
		}},
		{"PB1005", "ecs:DescribeTasks", "too many", func(f *Facts) {
			f.AWS = &api.AWS{Calls: []api.AWSCall{{Action: "ecs:DescribeTasks", Outcome: api.Throttled}}}
		}},
		{"PB1012", "replica 10.0.0.2:18005", "other services", func(f *Facts) {
			f.Status.Replicas = []api.Replica{{Address: "10.0.0.2:18005", Heard: true, Since: noon.Add(-time.Hour), Differs: noon.Add(-time.Minute)}, {Address: "10.0.0.3:18005", Heard: true, Differs: noon.Add(-time.Second)}}
		}},
		{"PB1013", "replica 10.0.0.2:18005", "not been heard for 60 s", func(f *Facts) {
			f.Status.Replicas = []api.Replica{{Address: "10.0.0.2:18005", Since: noon.Add(-time.Minute)}, {Address: "10.0.0.3:18005", Since: noon.Add(-time.Second)}}
		}},
		{"PB1101", "other.demo", "older", func(f *Facts) {
			f.Status.Services = append(f.Status.Services, api.Service{
				Name: "other.demo", Protocol: "http", Endpoints: map[string]int{"HEALTHY": 1}, Source: "live",
				Aliases: []api.Alias{{DNSName: "backend.demo", Port: 8080, LostTo: "backend.demo"}},
			})
		}},
		{"PB1102", "demo/frontend/f1", "port 8080", func(f *Facts) {
			f.Status.Sidecars[1].Agent.NamesRefused = []string{"backend.demo:8080: a container of this task uses port 8080: call another port"}
		}},
		{"PB1103", "legacy", "DNS", func(f *Facts) { f.Status.Namespaces[0].Rejected = map[string]string{"legacy": "a DNS type"} }},
		{"PB1104", "backend.demo", "conflict", func(f *Facts) {
			p := &f.Status.Sidecars[0].Ports[0]
			p.Registered, p.Error = false, "conflict with a service of another owner"
			f.Status.Services[0].Endpoints = map[string]int{}
		}},
		{"PB1105", "backend.demo", "hash", func(f *Facts) {
			f.Status.Services[0].Settings, f.Status.Services[0].Protocol, f.Status.Services[0].Source = "the hash differs", "", "unfinished"
		}},
		{"PB1106", "backend.demo", "bad_port", func(f *Facts) { f.Status.Services[0].Skipped = map[string]int{"bad_port": 2} }},
		{"PB1112", "plan.json: lb[0]", "speaks HTTP", func(f *Facts) {
			f.Balancers = []Balancer{{"plan.json: lb[0]", "its target group speaks HTTP; allowed: protocol HTTPS"}}
		}},
		{"PB1107", "backend.demo", "may not offer", func(f *Facts) {
			p := &f.Status.Sidecars[0].Ports[0]
			p.Registered, p.Error = false, `workload demo/backend may not offer "backend"; it may offer []`
			f.Status.Services[0].Endpoints = map[string]int{}
		}},
		{"PB1109", "namespace demo", "arn:aws:servicediscovery", func(f *Facts) {
			f.Status.Namespaces[0].Error = `2 namespaces have the HttpName "demo": arn:aws:servicediscovery:eu-west-1:1:namespace/ns-1 (HTTP), arn:aws:servicediscovery:eu-west-1:2:namespace/ns-2 (HTTP); say which is meant with its ARN`
		}},
		{"PB1110", "backend.demo", "makes DNS records", func(f *Facts) {
			f.Status.Conflicts = []api.Conflict{{Service: "backend.demo", ARN: "arn:1", What: "a service of that name exists and makes DNS records (type DNS_HTTP)", Remedy: "delete it"}}
		}},
		{"PB1110", "backend.demo", "Amazon ECS", func(f *Facts) {
			p := &f.Status.Sidecars[0].Ports[0]
			p.Registered, p.Error = false, "register backend.demo: a service of that name exists and Amazon ECS manages it (arn:1); use another discoveryName"
			f.Status.Services[0].Endpoints = map[string]int{}
		}},
		{"PB1111", "backend.demo", "i-1, i-2", func(f *Facts) { f.Status.Services[0].Strangers = []string{"i-1", "i-2"} }},
		{"PB1201", "issuer default", "refused", func(f *Facts) {
			f.Status.Issuers[0].LastError = "dial tcp: connection refused"
			t := f.Status.Services[0].TLS
			t.Serial, t.NotAfter, t.LastError, t.Failures = "", time.Time{}, "connection refused", 4
			f.Status.Sidecars[1].Stream.Types[0] = api.TypeSync{Type: "cds", State: api.Waiting, Since: noon.Add(-time.Minute), Names: []string{"backend.demo"}}
		}},
		{"PB1202", "issuer default", "password", func(f *Facts) { f.Status.Issuers[0].LastError = "decrypt provisioner key: wrong password" }},
		{"PB1203", "backend.demo", "none was issued", func(f *Facts) { f.Status.Services[0].TLS.Serial = "" }},
		{"PB1204", "backend.demo", "not renewed", func(f *Facts) { f.Status.Services[0].TLS.NotAfter = noon.Add(-time.Minute) }},
		{"PB1204", "backend.demo", "on purpose", func(f *Facts) {
			f.Status.Services[0].TLS.NotAfter, f.Status.Services[0].TLS.OnPurpose = noon.Add(-time.Minute), true
		}},
		{"PB1205", "backend.demo", "about to end: somebody has it expire on purpose", func(f *Facts) { f.Status.Services[0].TLS.OnPurpose = true }},
		{"PB1205", "backend.demo", "tenth", func(f *Facts) { f.Status.Services[0].TLS.Alarm = true }},
		{"PB1201", "issuer default", "timeout", func(f *Facts) {
			f.Status.Services[0].TLS.LastError, f.Status.Services[0].TLS.Failures = "i/o timeout", 2
		}},
		{"PB1205", "backend.demo", "can't be kept in the secret store", func(f *Facts) {
			f.Status.Services[0].TLS.LastError, f.Status.Services[0].TLS.Failures = "prepare secret(leaf/demo/backend generation 2): write /data/secrets/.new-1: no space left on device", 2
		}},
		{"PB1206", "backend.demo", "disk", func(f *Facts) { f.Status.Services[0].TLS.NotStored = "disk full" }},
		{"PB1207", "backend.demo", "arn:aws:acm-pca", func(f *Facts) { f.Status.Services[0].TLS.Issuer = "arn:aws:acm-pca:x" }},
		{"PB1301", "demo/frontend/f1", "is not", func(f *Facts) { f.Status.Sidecars[1].Stream = nil }},
		{"PB1302", "demo/frontend/f1", nack, func(f *Facts) {
			f.Status.Sidecars[1].Stream.Types[0].State = api.Rejected
			f.Status.Sidecars[1].Stream.Types[0].Rejections = []api.Refusal{{Name: "backend.demo", Version: "1", Error: nack, At: noon}}
		}},
		{"PB1303", "demo/frontend/f1", "secrets that it asks for", func(f *Facts) { f.Status.Sidecars[1].Stream.Missing = []string{"bundle/x"} }},
		{"PB1304", "demo/backend/b1", "another program", func(f *Facts) {
			a := f.Status.Sidecars[0].Agent
			a.EnvoyReady, a.EnvoyError = false, "ingress-web: cannot bind '0.0.0.0:15000': Address already in use"
			f.Status.Sidecars[0].Ports[0].Health = "UNHEALTHY"
			f.Status.Services[0].Endpoints = map[string]int{"UNHEALTHY": 1}
		}},
		{"PB1305", "demo/backend/b1", "1.29.1", func(f *Facts) { f.Status.Sidecars[0].Agent.EnvoyVersion = "1.29.1" }},
		{"PB1306", "demo/backend/b1", "live", func(f *Facts) { f.Status.Sidecars[0].Agent.EnvoyReady = false }},
		{"PB1307", "demo/frontend/f1", "eds", func(f *Facts) {
			f.Status.Sidecars[1].Stream.Types[1] = api.TypeSync{Type: "eds", State: api.Waiting, Since: noon.Add(-time.Minute), Names: []string{"a"}}
		}},
		{"PB1307", "demo/frontend/f1", "changes of eds have waited", func(f *Facts) {
			f.Status.Sidecars[1].Stream.Types[1] = api.TypeSync{Type: "eds", State: api.Stale, Since: noon.Add(-time.Minute), Names: []string{"a"}}
		}},
		{"PB1606", "demo/frontend/f1", "backend.demo is not declared", func(f *Facts) {
			f.Status.Sidecars[1].Agent.Dependencies = []string{"db"}
			f.Traffic = &api.Traffic{Edges: []api.Edge{{Workload: "demo/frontend", Service: "backend.demo", Requests: 3}}}
		}},
		{"PB1306", "demo/backend/b1", "does not answer its agent", func(f *Facts) {
			f.Tasks = map[string]*api.Task{"demo/backend/b1": {At: noon, Errors: map[string]string{"server_info": "timeout"}}}
		}},
		{"PB1308", "demo/frontend/f1", "no agent", func(f *Facts) { f.Status.Sidecars[1].Agent = nil }},
		{"PB1401", "demo/backend/b1", "containerPort", func(f *Facts) {
			f.Status.Sidecars[0].Ports[0].Health = "UNHEALTHY"
			f.Status.Services[0].Endpoints = map[string]int{"UNHEALTHY": 1}
		}},
		{"PB1304", "demo/frontend/f1", "below 1024", func(f *Facts) {
			f.Status.Sidecars[1].Agent.NamesRefused = []string{"backend.demo:80: egress-127.138.247.126-80: cannot bind '127.138.247.126:80': Permission denied"}
		}},
		{"PB1402", "demo/frontend/f1", "read-only", func(f *Facts) { f.Status.Sidecars[1].Agent.NamesRefused = []string{"hosts: read-only file system"} }},
		{"PB1402", "demo/frontend/f1", "agent itself", func(f *Facts) {
			f.Status.Sidecars[1].Agent.NamesRefused = []string{"cp.demo: the agent itself reaches the control plane or AWS by this name, so that it is not written"}
		}},
		{"PB1403", "demo/frontend/f1", "listen", func(f *Facts) { f.Status.Sidecars[1].Agent.NamesWaiting = []string{"backend.demo"} }},
		{"PB1405", "demo/frontend/f1", "from 10.0.0.1 and 10.0.0.2", func(f *Facts) {
			f.Status.Sidecars[1].Agent.Rivalry = &api.Rivalry{Count: 3, Addresses: []string{"10.0.0.1", "10.0.0.2"}}
		}},
		{"PB1404", "demo/frontend/f1", "nothing for", func(f *Facts) { f.Status.Sidecars[1].Agent.LastHealth = noon.Add(-time.Minute) }},
		{"PB1501", "backend.demo", "no connected task", func(f *Facts) {
			f.Status.Services[0].Endpoints, f.Status.Sidecars = map[string]int{}, f.Status.Sidecars[1:]
		}},
		{"PB1502", "backend.demo", "none reports to be healthy", func(f *Facts) { f.Status.Services[0].Endpoints = map[string]int{"UNHEALTHY": 2} }},
		{"PB1503", "10.0.0.1:15000", "refused", func(f *Facts) { seen(f, verify.Observation{Unreachable: "connection refused"}) }},
		{"PB1504", "10.0.0.1:15000", "version", func(f *Facts) {
			seen(f, verify.Observation{Modern: verify.Handshake{Error: "protocol version not supported"}, Older: verify.Handshake{Error: "x"}, Plain: verify.Plain{Refused: true}})
		}},
		{"PB1509", "demo/backend", "not with TLS 1.3", func(f *Facts) {
			f.Traffic = &api.Traffic{Ingresses: []api.Ingress{{Workload: "demo/backend", Refused: 3, Knocked: noon.Add(-time.Minute)}}}
		}},
		{"PB1210", "workload demo/frontend", "none was issued", func(f *Facts) {
			f.Status.Callers = []api.Caller{{Workload: "demo/frontend", TLS: api.TLS{Issuer: "default", LastError: ""}}}
			f.Status.Issuers[0].LastError = ""
		}},
		{"PB1512", "demo/backend", "no rule", func(f *Facts) {
			f.Traffic = &api.Traffic{Ingresses: []api.Ingress{{Workload: "demo/backend", Denied: 3, DeniedAt: noon.Add(-time.Minute)}}}
		}},
		{"PB1513", "demo/frontend/f1", "backend.demo requires", func(f *Facts) {
			f.Status.Sidecars[1].Stream = &api.Stream{View: "demo///grpc"}
			f.Status.Services[0].Protocol, f.Status.Services[0].MutualTLS = "grpc", &policy.MutualTLS{Mode: policy.Required}
		}},
		{"PB1511", "backend.demo", "not every connection", func(f *Facts) {
			f.Traffic = &api.Traffic{Edges: []api.Edge{{Workload: "demo/frontend", Service: "backend.demo", Encryption: api.Encryption{TLS13: 9, Plain: 1, Exposed: noon}}}}
		}},
		{"PB1208", "backend.demo", "broke off handshakes", func(f *Facts) {
			f.Traffic = &api.Traffic{Edges: []api.Edge{{Workload: "demo/frontend", Service: "backend.demo", Encryption: api.Encryption{Unverified: 1, Distrusted: noon}}}}
		}},
		{"PB1208", "backend.demo", "broke off handshakes", func(f *Facts) {
			f.Status.Services[0].External = []string{"api.example:443"}
			f.Traffic = &api.Traffic{Edges: []api.Edge{{Workload: "demo/frontend", Service: "backend.demo", Encryption: api.Encryption{Unverified: 1, Distrusted: noon}}}}
		}},
		{"PB1508", "backend.demo", "without TLS", func(f *Facts) { f.Status.Services[0].TLS.Only, f.Status.Services[0].Encrypted = true, 0 }},
	}
	rest := Codes()
	for _, c := range rows {
		rest = slices.DeleteFunc(rest, func(code string) bool { return code == c.want })
		t.Run(c.want, func(t *testing.T) {
			f := healthy()
			c.spoil(f)
			got := Check(f)
			if len(got) == 0 || got[0].Code != c.want || !strings.Contains(got[0].Subject, c.subject) || !strings.Contains(got[0].Cause, c.cause) {
				t.Fatalf("want %s of %s because %q, got %+v", c.want, c.subject, c.cause, got)
			}
			for _, x := range got {
				if x.Title == "" || x.Cause == "" || len(x.Fix) == 0 || x.Severity == "" {
					t.Errorf("not complete: %+v", x)
				}
			}
		})
	}
	// These are about one call: package hops has them.
	if want := []string{"PB1209", "PB1506", "PB1507", "PB1510", "PB1601", "PB1602", "PB1603", "PB1604", "PB1605", "PB1607"}; !slices.Equal(rest, want) {
		t.Errorf("without a mesh that has them first: %v, want %v", rest, want)
	}
}

// TestDeletedService: a service that nobody offers any more may be deleted.
func TestDeletedService(t *testing.T) {
	f := healthy()
	f.Status.Sidecars = f.Status.Sidecars[1:]
	s := &f.Status.Services[0]
	s.Error, s.Settings, s.Source, s.Endpoints = "DiscoverInstances: ServiceNotFound: no service", "GetServiceAttributes: ServiceNotFound: no service", "last-known-good", map[string]int{}
	if got := Check(f); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// TestNothingIsToldTwice: a broken registry or CA is one finding, not one for
// each service.
func TestNothingIsToldTwice(t *testing.T) {
	f := healthy()
	f.Status.Namespaces[0].Error = "connection refused"
	for range 5 {
		s := f.Status.Services[0]
		s.Name, s.Error, s.Source = "x"+s.Name, "connection refused", "last-known-good"
		f.Status.Services = append(f.Status.Services, s)
	}
	var codes []string
	for _, x := range Check(f) {
		codes = append(codes, x.Code)
	}
	if !slices.Equal(codes, []string{"PB1004"}) {
		t.Error(codes)
	}
}

// TestEveryCodeHasAPage, and every page a code: docs/doctor is what --code
// prints.
func TestEveryCodeHasAPage(t *testing.T) {
	for _, c := range Codes() {
		b, err := os.ReadFile("../docs/doctor/" + c + ".md")
		if err != nil || !strings.HasPrefix(string(b), "# "+c+": "+Title(c)+"\n") || !strings.Contains(string(b), "## What to do") {
			t.Errorf("%s: %v %.80s", c, err, b)
		}
	}
	pages, err := filepath.Glob("../docs/doctor/PB*.md")
	if err != nil || len(pages) != len(Codes()) {
		t.Errorf("%d pages, %d codes", len(pages), len(Codes()))
	}
}

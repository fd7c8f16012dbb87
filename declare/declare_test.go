package declare

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchbay/mesh"
)

const good = `{
  "serviceConnectConfiguration": {
    "enabled": true, "namespace": "demo",
    "services": [
      {"portName": "web", "clientAliases": [{"port": 80, "dnsName": "backend"}], "timeout": {"idleTimeoutSeconds": 0, "perRequestTimeoutSeconds": 30},
       "tls": {"issuerCertificateAuthority": {"awsPcaAuthorityArn": "default"}, "kmsKey": "k", "roleArn": "r"}},
      {"portName": "db", "discoveryName": "store", "ingressPortOverride": 15999}
    ],
    "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g"}},
    "accessLogConfiguration": {"format": "JSON", "includeQueryParameters": "ENABLED"},
    "containerConfigurations": [{"logLevel": "debug"}]
  },
  "portMappings": [
    {"name": "web", "containerPort": 8080, "appProtocol": "http", "protocol": "tcp"},
    {"name": "db", "containerPort": 5432, "hostPort": 5432},
    {"containerPort": 9100}
  ]
}`

func TestParse(t *testing.T) {
	off, half := time.Duration(0), 30*time.Second
	want := Task{
		Enabled: true, Namespace: "demo", ContainerPorts: []uint16{5432, 8080, 9100}, LogLevel: "debug",
		AccessLog: &AccessLog{Format: "JSON", QueryParameters: true},
		Ports: []Port{
			{PortName: "web", DiscoveryName: "web", Protocol: mesh.HTTP, ContainerPort: 8080, IngressPort: 15010, Aliases: []Alias{{"backend", 80}}, TLS: &mesh.ServiceTLS{Issuer: "default"}, Timeouts: mesh.Timeouts{Idle: &off, PerRequest: &half}},
			{PortName: "db", DiscoveryName: "store", Protocol: mesh.TCP, ContainerPort: 5432, IngressPort: 15999, Aliases: []Alias{{"", 5432}}},
		},
	}
	got, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestClientOnlyAndOff(t *testing.T) {
	for text, enabled := range map[string]bool{
		`{}`: false, `{"serviceConnectConfiguration": {"enabled": false, "services": [{"portName": "nonsense"}]}}`: false,
		`{"serviceConnectConfiguration": {"enabled": true}}`: true,
	} {
		got, err := Parse([]byte(text))
		if err != nil || got.Enabled != enabled || len(got.Ports) != 0 {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

// Each case names the paths that the answer must list, and no other.
func TestProblems(t *testing.T) {
	const sc = "serviceConnectConfiguration."
	services := func(entries, mappings string) string {
		return `{"serviceConnectConfiguration": {"enabled": true, "services": [` + entries + `]}, "portMappings": [` + mappings + `]}`
	}
	const web = `{"name": "web", "containerPort": 80, "appProtocol": "http"}`
	for name, c := range map[string]struct {
		text  string
		paths []string
	}{
		"not JSON":            {`{`, []string{"declaration"}},
		"two documents":       {`{} {}`, []string{"declaration"}},
		"a list":              {`[]`, []string{"declaration"}},
		"null":                {`null`, []string{"declaration"}},
		"unknown keys":        {`{"x": 1, "serviceConnectConfiguration": {"enabled": true, "service": []}}`, []string{sc + "service", "x"}},
		"wrong types":         {`{"serviceConnectConfiguration": {"enabled": "yes", "services": {}}, "portMappings": [{"containerPort": 1.5}]}`, []string{"portMappings[0].containerPort", sc + "enabled", sc + "services"}},
		"enabled missing":     {`{"serviceConnectConfiguration": {}}`, []string{sc + "enabled"}},
		"port unknown":        {services(`{"portName": "api"}`, web), []string{sc + "services[0].portName"}},
		"port missing":        {services(`{}`, web), []string{sc + "services[0].portName"}},
		"udp":                 {services(`{"portName": "u"}`, `{"name": "u", "containerPort": 53, "protocol": "udp"}`), []string{sc + "services[0].portName"}},
		"https":               {services(``, `{"name": "w", "containerPort": 443, "appProtocol": "https"}`), []string{"portMappings[0].appProtocol"}},
		"bad names":           {services(`{"portName": "web", "discoveryName": "Web", "clientAliases": [{"port": 80, "dnsName": "a b"}]}`, web), []string{sc + "services[0].discoveryName", sc + "services[0].clientAliases[0].dnsName"}},
		"two aliases":         {services(`{"portName": "web", "clientAliases": [{"port": 80}, {"port": 81}]}`, web), []string{sc + "services[0].clientAliases"}},
		"alias port":          {services(`{"portName": "web", "clientAliases": [{"dnsName": "x"}]}`, web), []string{sc + "services[0].clientAliases[0].port"}},
		"duplicate discovery": {services(`{"portName": "web", "clientAliases": [{"port": 1}]}, {"portName": "web", "clientAliases": [{"port": 2}]}`, web), []string{sc + "services[1].discoveryName"}},
		"duplicate alias":     {services(`{"portName": "web", "clientAliases": [{"port": 1, "dnsName": "x"}]}, {"portName": "web", "discoveryName": "o", "clientAliases": [{"port": 1, "dnsName": "x"}]}`, web), []string{sc + "services[1].clientAliases[0]"}},
		"tcp request timeout": {services(`{"portName": "db", "timeout": {"perRequestTimeoutSeconds": 1}}`, `{"name": "db", "containerPort": 1}`), []string{sc + "services[0].timeout.perRequestTimeoutSeconds"}},
		"negative timeout":    {services(`{"portName": "web", "timeout": {"idleTimeoutSeconds": -1}}`, web), []string{sc + "services[0].timeout.idleTimeoutSeconds"}},
		"no issuer":           {services(`{"portName": "web", "tls": {}}`, web), []string{sc + "services[0].tls.issuerCertificateAuthority.awsPcaAuthorityArn"}},
		"override taken":      {services(`{"portName": "web", "ingressPortOverride": 80}`, web), []string{sc + "services[0].ingressPortOverride"}},
		"port out of range":   {services(``, `{"name": "w", "containerPort": 65536}`), []string{"portMappings[0].containerPort"}},
		"access log alone":    {`{"serviceConnectConfiguration": {"enabled": true, "accessLogConfiguration": {"format": "XML"}}}`, []string{sc + "accessLogConfiguration", sc + "accessLogConfiguration.format"}},
		"log level":           {`{"serviceConnectConfiguration": {"enabled": true, "containerConfigurations": [{"logLevel": "trace"}]}}`, []string{sc + "containerConfigurations[0].logLevel"}},
		"several at once":     {services(`{"portName": "api", "tls": {}}`, `{"name": "-", "containerPort": 0}`), []string{"portMappings[0].containerPort", "portMappings[0].name", sc + "services[0].portName", sc + "services[0].tls.issuerCertificateAuthority.awsPcaAuthorityArn"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.text))
			problems, ok := errors.AsType[Problems](err)
			if !ok {
				t.Fatalf("error is %v", err)
			}
			var paths []string
			for _, p := range problems {
				paths = append(paths, p.Path)
				if p.Text == "" || strings.Contains(p.String(), "%!") {
					t.Errorf("bad text: %s", p)
				}
			}
			if d := cmp.Diff(c.paths, paths); d != "" {
				t.Errorf("%s\n%v", d, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add(`{"portMappings": [null, {"name": null}]}`)
	f.Add(`{"serviceConnectConfiguration": null}`)
	f.Fuzz(func(t *testing.T, text string) {
		task, err := Parse([]byte(text))
		if err != nil {
			if p, ok := errors.AsType[Problems](err); !ok || len(p) == 0 {
				t.Fatalf("an error without problems: %v", err)
			}
			return
		}
		for _, p := range task.Ports {
			if !mesh.ValidDiscoveryName(p.DiscoveryName) || p.ContainerPort == 0 || p.IngressPort == 0 || len(p.Aliases) != 1 || !p.Protocol.Valid() {
				b, _ := json.Marshal(p)
				t.Fatalf("accepted %s", b)
			}
		}
	})
}

package declare

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

var update = flag.Bool("update", false, "write what is said into the golden file")

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

// A document of brackets alone must not take all memory.
func TestDeepDocumentsAreRefused(t *testing.T) {
	for _, text := range []string{strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000)} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), "nests more than 100 deep") {
			t.Errorf("%.300v", err)
		}
	}
}

func TestParse(t *testing.T) {
	off, half := time.Duration(0), 30*time.Second
	want := Task{
		Enabled: true, Namespace: "demo", ContainerPorts: []uint16{5432, 8080, 9100}, LogLevel: "debug",
		AccessLog: &AccessLog{Format: "JSON", QueryParameters: true},
		Ports: []Port{
			{PortName: "web", DiscoveryName: "web", Protocol: mesh.HTTP, ContainerPort: 8080, IngressPort: 15010, Aliases: []Alias{{"backend", 80}}, TLS: &mesh.ServiceTLS{Issuer: "default", KMSKey: "k"}, Timeouts: mesh.Timeouts{Idle: &off, PerRequest: &half}},
			{PortName: "db", DiscoveryName: "store", Protocol: mesh.TCP, ContainerPort: 5432, IngressPort: 15999, Aliases: []Alias{{"", 5432}}},
		},
		Ignored: Problems{{"serviceConnectConfiguration.services[0].tls.roleArn", "has no effect: the control plane asks the CA and keeps the certificate, with its own role; who gets it is who has the task's role (taskRoleArn)"}},
	}
	for _, text := range []string{good, "\xef\xbb\xbf" + good} { // as some editors begin a file
		got, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
}

func TestRangesOfPorts(t *testing.T) {
	got, err := Parse([]byte(`{"serviceConnectConfiguration": {"enabled": true}, "portMappings": [{"containerPortRange": "8001-8003"}, {"containerPort": 8002},
		{"name": "rest", "containerPortRange": "65535-65535"}, {"containerPortRange": "1-65535", "protocol": "udp"}]}`))
	if d := cmp.Diff([]uint16{8001, 8002, 8003, 65535}, got.ContainerPorts); err != nil || d != "" {
		t.Error(d, err)
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

// The port that declare reserves is the one that Envoy has.
func TestRedirectPort(t *testing.T) {
	if redirectPort != bootstrap.RedirectPort {
		t.Errorf("%d, but the bootstrap says %d", redirectPort, bootstrap.RedirectPort)
	}
}

func archive(t *testing.T, name string) *txtar.Archive {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Files) < 5 {
		t.Fatalf("%s has %d sections", name, len(a.Files))
	}
	return a
}

func TestAccepted(t *testing.T) {
	for _, f := range archive(t, "accepted.txtar").Files {
		if _, err := Parse(f.Data); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
}

// Every problem of each declaration is said, with its path and what is allowed.
func TestRefused(t *testing.T) {
	a := archive(t, "refused.txtar")
	for i := 0; i < len(a.Files); i += 2 {
		in, says := a.Files[i], &a.Files[i+1]
		t.Run(in.Name, func(t *testing.T) {
			if says.Name != in.Name+": says" {
				t.Fatalf("followed by %s", says.Name)
			}
			_, err := Parse(in.Data)
			problems, ok := errors.AsType[Problems](err)
			if !ok || len(problems) == 0 {
				t.Fatalf("error is %v", err)
			}
			got := problems.Error() + "\n"
			if *update {
				says.Data = []byte(got)
			} else if d := cmp.Diff(string(says.Data), got); d != "" || strings.Contains(got, "%!") {
				t.Errorf("differs (run with -update and read the diff):\n%s", d)
			}
		})
	}
	if *update {
		if err := os.WriteFile("testdata/refused.txtar", txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
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

// What the control plane would not take is refused before anything starts.
func TestTooMany(t *testing.T) {
	var services, mappings []string
	for i := range most + 1 {
		services = append(services, fmt.Sprintf(`{"portName": "p%d"}`, i))
		mappings = append(mappings, fmt.Sprintf(`{"name": "p%d", "containerPort": %d}`, i, 1000+i))
	}
	for n, want := range map[int]string{most: "", most + 1: "serviceConnectConfiguration.services: has 101 entries; allowed: up to 100\nportMappings: has 101 ports; allowed: up to 100"} {
		_, err := Parse(fmt.Appendf(nil, `{"serviceConnectConfiguration": {"enabled": true, "services": [%s]}, "portMappings": [%s]}`,
			strings.Join(services[:n], ","), strings.Join(mappings[:n], ",")))
		if got := fmt.Sprint(err); err == nil && want != "" || err != nil && got != want {
			t.Errorf("%d: %v, want %q", n, err, want)
		}
	}
}

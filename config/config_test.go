package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const good = `trustDomain: demo.patchbay
namespaces: [demo]
data: ./state
registry: {listen: "127.0.0.1:18003"}
admin: {listen: "0.0.0.0:18002", tokenFile: /run/token}
issuers:
  default:
    stepCA: {url: "https://ca:9000", fingerprintFile: ca/fingerprint, provisioner: p, passwordFile: pw, lifetime: 24h}
`

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "patchbay.yaml")
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.TrustDomain, want.Namespaces, want.Data = "demo.patchbay", []string{"demo"}, filepath.Join(dir, "state")
	want.Registry = &Registry{Listen: "127.0.0.1:18003"}
	want.Admin = Admin{Listen: "0.0.0.0:18002", TokenFile: "/run/token"}
	want.Issuers = map[string]Issuer{"default": {StepCA: &StepCA{
		URL: "https://ca:9000", FingerprintFile: filepath.Join(dir, "ca/fingerprint"), Provisioner: "p", PasswordFile: filepath.Join(dir, "pw"), Lifetime: 24 * time.Hour,
	}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := Load(filepath.Join(dir, "none.yaml")); err == nil {
		t.Error("a missing file was loaded")
	}
}

func TestCloudMapAlone(t *testing.T) {
	c, problems := parse("f", []byte("namespaces: [a]\ncloudMap:\n"))
	if len(problems) > 0 || c.CloudMap == nil {
		t.Fatalf("%+v %v", c.CloudMap, problems)
	}
}

// Each line that is wrong stands in the answer, with its number.
func TestProblems(t *testing.T) {
	const base = "namespaces: [demo]\nregistry: {listen: \"127.0.0.1:18003\"}\n"
	for name, c := range map[string]struct {
		text string
		want []string // "line path"
	}{
		"empty":               {"", []string{"f: namespaces:", "f: registry:"}},
		"not YAML":            {"a: [", []string{"f: file:"}},
		"a list":              {"- a", []string{"f: file:"}},
		"unknown and twice":   {base + "xsd: {}\nprofile: live\nprofile: live\n", []string{"f:3: xsd:", "f:5: profile:"}},
		"wrong types":         {base + "createNamespaces: perhaps\nxds: 5\ndata: [a]\n", []string{"f:3: createNamespaces:", "f:4: xds:", "f:5: data:"}},
		"namespaces":          {"namespaces: [a, a, \"b c\"]\ncloudMap: {}\n", []string{"f:1: namespaces[1]:", "f:1: namespaces[2]:"}},
		"two registries":      {base + "cloudMap: {region: eu-west-1}\n", []string{"f:3: cloudMap:"}},
		"addresses":           {base + "xds: {listen: host}\nagent: {listen: \"0.0.0.0:70000\"}\nadmin: {listen: \"127.0.0.1:0\"}\n", []string{"f:3: xds.listen:", "f:4: agent.listen:", "f:5: admin.listen:"}},
		"one port for two":    {base + "agent: {listen: \"0.0.0.0:18000\"}\n", []string{"f:3: agent.listen:"}},
		"none off loopback":   {base + "xds: {auth: none}\n", []string{"f:3: xds.auth:"}},
		"admin off loopback":  {base + "admin: {listen: \"0.0.0.0:18002\"}\n", []string{"f:3: admin.tokenFile:"}},
		"registry for all":    {"namespaces: [a]\nregistry: {listen: \"0.0.0.0:18003\"}\n", []string{"f:2: registry.keysFile:"}},
		"issuer":              {base + "issuers:\n  x: {}\n  default:\n    stepCA: {url: \"http://x\", lifetime: 1s}\n", []string{"f:4: issuers.x:", "issuers.default.stepCA.url:", "stepCA.fingerprint:", "stepCA.provisioner:", "stepCA.passwordFile:", "stepCA.lifetime:"}},
		"a bad duration":      {base + "issuers: {default: {stepCA: {lifetime: soon}}}\n", []string{"f:3: issuers.default.stepCA.lifetime:"}},
		"words":               {base + "profile: dead\nlog: {level: loud, format: xml}\ntrustDomain: Ex Ample\n", []string{"f:3: profile:", "f:4: log.level:", "f:4: log.format:", "f:5: trustDomain:"}},
		"cloud map's address": {"namespaces: [a]\ncloudMap: {endpoint: cloudmap}\n", []string{"f:2: cloudMap.endpoint:"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := parse("f", []byte(c.text))
			if len(problems) != len(c.want) {
				t.Errorf("%d problems, want %d:\n%v", len(problems), len(c.want), problems)
			}
			for _, w := range c.want {
				if !strings.Contains(problems.Error(), w) {
					t.Errorf("nothing says %q:\n%v", w, problems)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add("namespaces: &x [*x]")
	f.Add("namespaces: &a [b]\nx: *a")
	f.Fuzz(func(t *testing.T, text string) {
		c, problems := parse("f", []byte(text))
		if len(problems) == 0 && (c.Registry == nil) == (c.CloudMap == nil) {
			t.Fatal("accepted without one registry")
		}
	})
}

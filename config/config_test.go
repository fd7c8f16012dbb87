package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
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
	want.Registry = &Registry{Listen: "127.0.0.1:18003", Lease: 15 * time.Second}
	want.Admin = Admin{Listen: "0.0.0.0:18002", TokenFile: "/run/token"}
	want.Issuers = map[string]Issuer{"default": {StepCA: &StepCA{
		URL: "https://ca:9000", FingerprintFile: filepath.Join(dir, "ca/fingerprint"), Provisioner: "p", PasswordFile: filepath.Join(dir, "pw"), Lifetime: 24 * time.Hour,
	}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestCloudMapAlone(t *testing.T) {
	c, problems := parse("f", []byte("namespaces: [a]\ncloudMap:\n"))
	if len(problems) > 0 || c.CloudMap == nil {
		t.Fatalf("%+v %v", c.CloudMap, problems)
	}
}

var update = flag.Bool("update", false, "write what is said into the golden file")

// Each thing that is wrong stands in the answer, with its line.
func TestProblems(t *testing.T) {
	const golden = "testdata/problems.txtar"
	a, err := txtar.ParseFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Files) < 20 || len(a.Files)%2 != 0 {
		t.Fatalf("%d sections", len(a.Files))
	}
	for i := 0; i < len(a.Files); i += 2 {
		file, says := a.Files[i], &a.Files[i+1]
		t.Run(file.Name, func(t *testing.T) {
			if says.Name != file.Name+": says" {
				t.Fatalf("followed by %s", says.Name)
			}
			_, problems := parse("patchbay.yaml", file.Data)
			if len(problems) == 0 {
				t.Fatal("it was accepted")
			}
			got := problems.Error() + "\n"
			if *update {
				says.Data = []byte(got)
				return
			}
			if d := cmp.Diff(string(says.Data), got); d != "" {
				t.Errorf("differs (run with -update and read the diff):\n%s", d)
			}
		})
	}
	if *update {
		if err := os.WriteFile(golden, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// What can't be read at all is said with the file's name.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	huge := filepath.Join(dir, "huge.yaml")
	if err := os.WriteFile(huge, []byte(good+strings.Repeat("# more\n", 10<<20/7)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "no such file", dir: "is a directory", huge: "more than 1 MiB",
	} {
		_, err := Load(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "--config") {
			t.Errorf("%s: %v", path, err)
		}
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

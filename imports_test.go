package patchbay

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport is the import rule of docs/architecture.md: what each package may
// use of this module besides mesh, mesh/policy, internal/count and its own subpackages. "*" is everything.
// cmd and tests are free.
var mayImport = map[string][]string{
	"mesh":                {},
	"mesh/policy":         {},
	"mesh/record":         {},
	"agentapi":            {},
	"appmesh":             {"declare"},
	"audit":               {},
	"agents":              {"agentapi", "identity"},
	"balancers":           {"declare", "internal/iam"},
	"config":              {"internal/suggest", "internal/textfile"},
	"declare":             {"internal/suggest"},
	"discovery":           {"mesh/record", "registry/watch", "internal/iam", "internal/namespaces"},
	"external":            {},
	"identity":            {"agentapi", "audit", "internal/iam"},
	"inject":              {"declare"},
	"pki":                 {"audit", "internal/iam"},
	"registrar":           {"mesh/record", "internal/namespaces"},
	"registry":            {"internal/textfile"},
	"replicas":            {"mesh/record", "internal/namespaces"},
	"shift":               {"mesh/record", "admin/api", "internal/suggest"},
	"rehearse":            {"admin/api", "internal/iam"},
	"tandem":              {},
	"telemetry":           {},
	"sidecar":             {"xds/bootstrap", "agentapi", "identity", "declare", "internal/envoybin", "internal/suggest", "internal/health", "diagnose/verify"},
	"xds":                 {},
	"admin":               {"internal/health", "identity/strangers"},
	"admin/api":           {"agentapi"},
	"diagnose":            {"admin/api", "agentapi", "internal/suggest"},
	"demo":                {"inject", "internal/poll"},
	"deploy":              {},
	"bench":               {"xds", "identity", "internal/envoybin", "agentapi", "internal/envoymodel", "internal/poll"},
	"bench/certificates":  {"bench", "pki", "internal/awsfake"},
	"bench/day":           {"bench", "discovery", "replicas", "mesh/record"},
	"internal/awsfake":    {"registry"},
	"internal/envoybin":   {},
	"internal/etcdclient": {},
	"internal/etcdtest":   {"internal/etcdclient", "internal/poll", "internal/testca"},
	"internal/envoymodel": {},
	"internal/envoytest":  {},
	"internal/devca":      {},
	"internal/suggest":    {},
	"internal/testca":     {},
	"internal/iam":        {},
	"internal/namespaces": {},
	"internal/count":      {},
	"internal/poll":       {},
	"internal/textfile":   {},
	"internal/health":     {},
	"docs/doctor":         {},
	"admin/live":          {"admin/api", "diagnose"},
	"fault":               {"admin/api", "mesh/policy", "internal/suggest"},
	"tap":                 {"admin/api", "agentapi", "internal/suggest"},
	"inspect":             {"admin/api", "xds"},
	"inspect/forecast":    {"admin/api", "xds", "inspect/compare"},
	"inspect/plan":        {"admin/api", "declare", "inject"},
	"registry/host":       {"registry", "config", "internal/etcdclient"},
	"diagnose/prove":      {"admin/api", "audit", "diagnose"},

	"controlplane": {"admin", "agentapi", "agents", "audit", "config", "discovery", "external", "fault", "identity", "internal/etcdclient", "internal/health",
		"pki", "registrar", "registry", "replicas", "shift", "telemetry", "xds"},
	"controlplane/answers": {"admin", "agentapi", "agents", "audit", "config", "diagnose", "discovery", "external", "fault", "inspect", "internal/health", "internal/suggest",
		"pki", "registrar", "rehearse", "replicas", "shift", "tap", "xds"},
	"controlplane/metrics": {"agents", "diagnose", "discovery", "internal/health", "pki", "replicas"},
}

// standardOnly lists the packages that use nothing but the standard library.
var standardOnly = []string{"mesh", "mesh/policy", "mesh/record"}

type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func TestImportsGoOneWay(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	n := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; n++ {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		check(t, p)
	}
	if n < 5 {
		t.Fatalf("go list named %d packages", n)
	}
}

func check(t *testing.T, p listed) {
	pkg := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, "patchbay"), "/")
	fake := pkg == "cmd/awsfake" || pkg == "bench/certificates" || strings.HasPrefix(pkg, "internal/awsfake")
	if !fake && slices.ContainsFunc(p.Imports, func(i string) bool { return strings.HasPrefix(i, "patchbay/internal/awsfake") }) {
		t.Errorf("%s imports a stand-in for AWS: only tests, benchmarks and cmd/awsfake may", pkg)
	}
	if pkg == "" || strings.HasPrefix(pkg, "cmd/") {
		return
	}
	room := pkg
	allowed, known := mayImport[room]
	for !known && strings.Contains(room, "/") {
		room = room[:strings.LastIndex(room, "/")]
		allowed, known = mayImport[room]
	}
	if !known {
		t.Errorf("package %s has no row in the import rule", pkg)
		return
	}
	for _, i := range p.Imports {
		ours, isOurs := strings.CutPrefix(i, "patchbay/")
		switch {
		case isOurs && !fits(ours, room, allowed):
			t.Errorf("%s imports %s; it may import mesh, mesh/policy, itself and %v", pkg, ours, allowed)
		case !isOurs && strings.Contains(i, ".") && slices.Contains(standardOnly, room):
			t.Errorf("%s imports %s; it may import the standard library only", pkg, i)
		case strings.HasPrefix(i, "github.com/smallstep/certificates/authority") && room != "internal/devca":
			t.Errorf("%s imports %s: only devca runs an authority", pkg, i)
		}
	}
}

func fits(ours, room string, allowed []string) bool {
	under := func(dir string) bool { return ours == dir || strings.HasPrefix(ours, dir+"/") }
	return ours == "mesh" || ours == "mesh/policy" || ours == "internal/count" || under(room) || slices.ContainsFunc(allowed, under)
}

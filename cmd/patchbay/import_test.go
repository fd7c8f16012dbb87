package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// TestFromAppMesh runs docs/guides/from-app-mesh.md: the AWS command line
// against a server that knows App Mesh's paths, then the import.
func TestFromAppMesh(t *testing.T) {
	a, err := txtar.ParseFile("../../appmesh/testdata/guide.txtar")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(appMeshAPI(t, a))
	defer server.Close()
	newGuide(t, "from-app-mesh.md", nil, "AWS_ENDPOINT_URL="+server.URL, "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y", "AWS_DEFAULT_REGION=eu-west-1",
		"AWS_MAX_ATTEMPTS=1", "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true").run(3)
}

// appMeshAPI answers Describe… and List… from the resources of an archive.
func appMeshAPI(t *testing.T, a *txtar.Archive) http.Handler {
	answers := map[string]any{}
	lists := map[string][]any{"virtualNodes": nil, "virtualServices": nil, "virtualRouters": nil, "virtualGateways": nil}
	const root = "/v20190125/meshes/apps"
	for _, f := range a.Files {
		if !strings.HasPrefix(f.Name, "in/") {
			continue
		}
		var doc map[string]map[string]any
		if err := json.Unmarshal(f.Data, &doc); err != nil {
			t.Fatal(err)
		}
		for kind, o := range doc {
			path := kind + "s"
			if kind == "mesh" {
				answers[root] = o
				continue
			}
			if kind == "route" {
				path = "virtualRouter/" + o["virtualRouterName"].(string) + "/routes"
			}
			answers[root+"/"+path+"/"+o[kind+"Name"].(string)] = o
			lists[path] = append(lists[path], o)
		}
	}
	for path, all := range lists {
		answers[root+"/"+path] = map[string]any{filepath.Base(path): slices.Concat([]any{}, all)}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, is := answers[r.URL.Path]
		if !is {
			t.Errorf("%s %s is not a path of the API", r.Method, r.URL.Path)
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
	})
}

func TestImportRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"in/a.json": `{"virtualNodes": []}`, "in/ignored.txt": "x", "good/a.json": `{"meshName": "m", "virtualNodeName": "n", "spec": {"x": 1}}`} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"in", "-o", "out"}, exitProblems, "nothing was written:\nin/a.json: has virtualNodes"},
		{[]string{"nowhere"}, exitUsage, "nowhere"},
		{[]string{"good", "-o", "good/"}, exitUsage, "holds what is read"},
		{[]string{"good", "--strict", "-o", "out"}, exitProblems, "1 lost, with --strict"},
		{nil, exitUsage, "0 arguments; allowed: patchbay import appmesh DIR|FILE..."},
	} {
		code, out := command(t, append([]string{"import", "appmesh"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%v: exit code %d, %s", c.args, code, out)
		}
	}
	if _, err := os.Stat("out/n.json"); err != nil {
		t.Error(err)
	}
}

package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
	"patchbay/inspect"
)

// Where a command takes a sidecar, the shell offers sidecars, and where it takes
// a service, services of which the command can do something.
func TestCompletions(t *testing.T) {
	st := api.Status{
		Sidecars: []api.Sidecar{{Node: "demo/backend/b1"}, {Node: "demo/frontend/f1"}},
		Services: []api.Service{
			{Name: "backend.demo", Protocol: "http", TLS: &api.TLS{}, Aliases: []api.Alias{{DNSName: "backend.demo", Port: 8080}}, Revisions: map[string]int{"green": 1, "blue": 2}},
			{Name: "cache.demo", Protocol: "tcp", Aliases: []api.Alias{{DNSName: "cache", Port: 6379}, {DNSName: "backend.demo", Port: 8080, LostTo: "backend.demo"}}},
			{Name: "partner.demo", Protocol: "http", Foreign: true, External: []string{"api.example:443"}, TLS: &api.TLS{}},
		},
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/status" {
			t.Errorf("asked for %s", r.URL)
		}
		_ = json.NewEncoder(w).Encode(st) // it may be gone
	}))
	t.Cleanup(srv.Close)
	sidecars, all := []string{"demo/backend/b1", "demo/frontend/f1"}, []string{"backend.demo", "cache.demo", "partner.demo"}
	rows := map[string][]string{
		"status":                    slices.Concat(sidecars, all),
		"status f1":                 nil,
		"tap":                       slices.Concat(sidecars, all),
		"verify":                    {"backend.demo"},
		"explain":                   sidecars,
		"explain f1":                {"http://backend.demo:8080", "tcp://cache:6379"},
		"explain f1 http://backend": nil,
		"diff":                      sidecars,
		"xds get":                   sidecars,
		"xds get f1":                inspect.Kinds,
		"xds get f1 cds":            nil,
		"xds watch":                 sidecars,
		"shift":                     {"backend.demo", "cache.demo"},
		"shift backend.demo":        nil,
		"shift backend.demo --to":   {"blue", "green"},
		"shift backend.demo --from": {"blue", "green"},
		"shift other.demo --to":     nil,
		"shift --to":                nil,
		"fault delay":               all,
		"fault delay backend.demo":  nil,
		"fault abort":               all,
		"fault drop":                all,
		"fault expire":              {"backend.demo"},
		"fault throttle":            nil,
		"fault restart":             nil,
	}
	for line, want := range rows {
		args := strings.Fields(line)
		out, exit := execute(t, slices.Concat([]string{"__complete", "--admin", srv.URL}, args, []string{""})...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		// The last two are for the shell: no files.
		if exit != exitDone || len(lines) < 2 || !strings.HasPrefix(lines[len(lines)-1], "Completion ended with directive: ShellCompDirectiveNoFileComp") {
			t.Errorf("%s: exit code %d, %s", line, exit, out)
			continue
		}
		if got := lines[:len(lines)-2]; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	// A command that is not above completes nothing that it gets from the mesh.
	eachCommand(newRoot(), func(c *cobra.Command) {
		name := strings.TrimPrefix(c.CommandPath(), "patchbay ")
		if _, known := rows[name]; c.ValidArgsFunction != nil && !known {
			t.Errorf("%s completes arguments: say which", name)
		}
	})
}

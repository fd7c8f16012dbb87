package xds

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// logLine waits for a line of an Envoy's access log and returns it.
func logLine(t *testing.T, e *envoytest.Envoy, is *regexp.Regexp) string {
	t.Helper()
	line := ""
	envoytest.Eventually(t, 15*time.Second, func() error {
		for l := range strings.Lines(e.Log(20)) {
			if is.MatchString(l) {
				line = strings.TrimSpace(l)
				return nil
			}
		}
		return fmt.Errorf("no line is %s", is)
	})
	return line
}

// Both forms of each protocol: the caller's Envoy writes TEXT with query
// strings, the callee's JSON without.
func TestAccessLogsHaveTheDocumentedFields(t *testing.T) {
	c := startControl(t, 0)
	app := backend(t, "ok").Port()
	ports := []bootstrap.Port{offer(t, "web", mesh.HTTP, app, ""), offer(t, "two", mesh.HTTP2, app, ""), offer(t, "rpc", mesh.GRPC, grpcApp(t), ""), offer(t, "raw", mesh.TCP, tcpApp(t), "")}
	at := map[string]mesh.Alias{}
	var services []*mesh.Service
	for _, p := range ports {
		at[p.DiscoveryName] = freeAlias(t, p.DiscoveryName)
		services = append(services, offered(p.Protocol, at[p.DiscoveryName], p))
	}
	c.store.SetServices("prod", services)
	c.accessLog = bootstrap.AccessLog{Format: "JSON"}
	callee := c.task(t, "prod/backend/1", "", ports...)
	c.accessLog = bootstrap.AccessLog{Format: "TEXT", QueryParameters: true}
	caller := c.task(t, "prod/web/1", "")
	for _, n := range []string{"web", "two"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+vip(at[n])+"/"+n+"?secret=1", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"User-Agent": {"a test"}, "X-Forwarded-For": {"203.0.113.7"}}
		resp, err := oneCall.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body) // who hangs up before may have been sent nothing
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(callGRPC(t.Context(), at["rpc"]), callTCP(at["raw"])); err != nil {
		t.Fatal(err)
	}

	const id, host = `"[0-9a-f-]{36}"`, `"127\.0\.0\.1:\d+"`
	for is, want := range map[string]string{
		`/web`:        `"GET /web\?secret=1 HTTP/1.1" 200 0 2 \d+ \d+ "203\.0\.113\.7" "a test" ` + id + ` "127\.[0-9.:]+" ` + host,
		`/two`:        `"GET /two\?secret=1 HTTP/1.1" 200 0 2 \d+ \d+ "203\.0\.113\.7" "a test" ` + id + ` "127\.[0-9.:]+" ` + host + ` [0-9a-f-]{36}`,
		`grpc.health`: `"POST /grpc\.health\.v1\.Health/Check HTTP/2" 200 OK 5 7 \d+ \d+ "-" "grpc-go/[0-9.]+" ` + id + ` "127\.[0-9.:]+" ` + host + ` [0-9a-f-]{36}`,
		`\] 127\.`:    `127\.0\.0\.1:\d+ \d+ 5 13 \d+ "-" \d+`,
	} {
		if line := logLine(t, caller, regexp.MustCompile(is)); !regexp.MustCompile(`^\[20[0-9T:.Z-]+\] ` + want + `$`).MatchString(line) {
			t.Errorf("%s as TEXT: %s", is, line)
		}
	}
	// What the callee's say: by the sidecars' protocol, which is HTTP/2 between them.
	method := map[string]any{`"/web"`: "GET", `"/two"`: "GET", `grpc.health`: "POST"}
	path := map[string]any{`"/web"`: "/web", `"/two"`: "/two", `grpc.health`: "/grpc.health.v1.Health/Check"}
	sent := map[string]any{`"/web"`: 2.0, `"/two"`: 2.0, `grpc.health`: 7.0, `connection_id`: 13.0}
	proto := map[string]any{`"/web"`: "HTTP/2", `"/two"`: "HTTP/2", `grpc.health`: "HTTP/2"}
	const common = "authority bytes_received bytes_sent %s forwarded_for%s method path protocol request_id response_code start_time%s upstream_host upstream_service_time user_agent"
	for is, keys := range map[string]string{
		`"/web"`:        fmt.Sprintf(common, "duration_ms", "", ""),
		`"/two"`:        fmt.Sprintf(common, "duration", "", " stream_id"),
		`grpc.health`:   fmt.Sprintf(common, "duration", " grpc_status", " stream_id"),
		`connection_id`: "bytes_received bytes_sent connection_id connection_termination_details downstream_remote_address downstream_remote_port duration start_time",
	} {
		line := logLine(t, callee, regexp.MustCompile(is))
		got := map[string]any{}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if have := strings.Join(slices.Sorted(maps.Keys(got)), " "); have != keys {
			t.Errorf("%s: the keys are %s, want %s", is, have, keys)
		}
		for key, want := range map[string]any{"method": method[is], "path": path[is], "response_code": 200.0, "grpc_status": "OK", "bytes_sent": sent[is], "protocol": proto[is]} {
			if v, has := got[key]; has && v != want {
				t.Errorf("%s: %s is %v, want %v", is, key, v, want)
			}
		}
		if strings.Contains(line, "secret") {
			t.Errorf("a query string is logged: %s", line)
		}
	}
}

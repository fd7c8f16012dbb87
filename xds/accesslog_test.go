package xds

import (
	"encoding/json"
	"fmt"
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

func TestAccessLogsHaveTheDocumentedFields(t *testing.T) {
	c := startControl(t, 0)
	web, rpc, raw := offer(t, "web", mesh.HTTP, backend(t, "ok").Port(), ""), offer(t, "rpc", mesh.GRPC, grpcApp(t), ""), offer(t, "raw", mesh.TCP, tcpApp(t), "")
	at := map[string]mesh.Alias{"web": freeAlias(t, "web"), "rpc": freeAlias(t, "rpc"), "raw": freeAlias(t, "raw")}
	c.store.SetServices("prod", []*mesh.Service{offered(mesh.TCP, at["raw"], raw), offered(mesh.GRPC, at["rpc"], rpc), offered(mesh.HTTP, at["web"], web)})
	c.accessLog = bootstrap.AccessLog{Format: "JSON"}
	callee := c.task(t, "prod/backend/1", "", web, rpc, raw)
	c.accessLog = bootstrap.AccessLog{Format: "TEXT", QueryParameters: true}
	caller := c.task(t, "prod/web/1", "")
	eventually(t, says(at["web"], "ok"))
	req, _ := http.NewRequest(http.MethodGet, "http://"+vip(at["web"])+"/a/b?secret=1", nil)
	req.Header.Set("User-Agent", "a test")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	eventually(t, func() error { return callGRPC(t.Context(), at["rpc"]) })
	eventually(t, func() error { return callTCP(at["raw"]) })

	// The request id differs; the caller's line has the query, the callee's not.
	text := logLine(t, caller, regexp.MustCompile(`a test`))
	want := `^\[20[0-9T:.Z-]+\] "GET /a/b\?secret=1 HTTP/1.1" 200 0 2 \d+ \d+ "-" "a test" "[0-9a-f-]{36}" "127\.[0-9.:]+" "127\.0\.0\.1:\d+"$`
	if !regexp.MustCompile(want).MatchString(text) {
		t.Errorf("caller: %s", text)
	}
	for _, l := range []struct{ is, keys string }{
		{`"/a/b"`, "authority bytes_received bytes_sent duration_ms forwarded_for method path protocol request_id response_code start_time upstream_host upstream_service_time user_agent"},
		{`grpc.health`, "authority bytes_received bytes_sent duration forwarded_for grpc_status method path protocol request_id response_code start_time stream_id upstream_host upstream_service_time user_agent"},
		{`connection_id`, "bytes_received bytes_sent connection_id connection_termination_details downstream_remote_address downstream_remote_port duration start_time"},
	} {
		line := logLine(t, callee, regexp.MustCompile(l.is))
		got := map[string]any{}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if keys := strings.Join(slices.Sorted(maps.Keys(got)), " "); keys != l.keys {
			t.Errorf("the keys are %s, want %s", keys, l.keys)
		}
		if strings.Contains(line, "secret") {
			t.Errorf("a query string is logged: %s", line)
		}
	}
}

package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"patchbay/admin/live"
)

// TestLive: the page is there for everybody, the mesh for those who may read
// it, and a change arrives without asking.
func TestLive(t *testing.T) {
	p := startPlane(t)
	resp, err := http.Get("http://" + p.cfg.Admin.Listen + "/")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || !strings.Contains(string(body), `<div id="graph"`) || !strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "default-src 'self'") {
		t.Errorf("%v %v %.200s", err, resp.Header, body)
	}
	for _, part := range []string{"page.js", "stream.js", "graph.js", "tables.js", "detail.js", "model.js", "page.css", "vendor/cytoscape.min.js", "vendor/uPlot.iife.min.js", "vendor/uPlot.min.css"} {
		r, err := http.Get("http://" + p.cfg.Admin.Listen + "/" + part)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v %v", part, r, err)
		}
		r.Body.Close()
	}
	stream, err := http.Get("http://" + p.cfg.Admin.Listen + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if kind := stream.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatal(kind)
	}
	lines := bufio.NewScanner(stream.Body)
	lines.Buffer(nil, 8<<20)
	next := func(wanted func(live.View) bool) {
		t.Helper()
		for lines.Scan() {
			var v live.View
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); !ok {
				continue
			} else if err := json.Unmarshal([]byte(data), &v); err != nil {
				t.Fatal(err)
			} else if wanted(v) {
				return
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
	}
	next(func(v live.View) bool { return v.Status.Ready && len(v.Status.Services) == 0 })
	p.offerTLS()
	next(func(v live.View) bool {
		for _, e := range v.Events {
			if e.Subject == "backend.demo" && e.Text == "the service appeared" {
				return len(v.Status.Services) == 1
			}
		}
		return false
	})
}

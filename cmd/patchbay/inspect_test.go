package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patchbay/admin/api"
	"patchbay/cmd/patchbay/cli"
	"patchbay/controlplane"
	"patchbay/internal/envoytest"
	"patchbay/mesh"
)

// TestInspect is what an operator sees of single sidecars, on one real mesh.
func TestInspect(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	_, port := listen(t, "hello")
	alias := uint16(freePort(t))
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	back := p.sidecar(p.joinDir("backend", "backend"), "b1", offering(t, "backend", port, alias))
	front.until(serving)
	back.until(serving)
	front.answers("backend.demo", alias, "hello")

	t.Run("xds get", func(t *testing.T) { p.on(t).xdsGet(back) })
	t.Run("forecast", func(t *testing.T) { p.on(t).forecasts(port, alias) })
	t.Run("xds watch", func(t *testing.T) { p.on(t).xdsWatch() })
	t.Run("tap", func(t *testing.T) { p.on(t).taps(front, back, alias) })
	t.Run("fault", func(t *testing.T) { p.on(t).faults(front, alias) })
	t.Run("expire", func(t *testing.T) { p.on(t).expires(front, alias) })
	t.Run("diff", func(t *testing.T) { p.on(t).diff(front) })
}

// on is the plane for a part of a test.
func (p *plane) on(t *testing.T) *plane {
	c := *p
	c.t = t
	return &c
}

func (p *plane) xdsGet(back *member) {
	p.prints(exitDone, `(?m)^cds +backend\.demo +\S+ +\S+ +\d+ +acknowledged$`, "xds", "get", "f1")
	p.prints(exitDone, `(?s)cds +backend\.demo .*# cds backend\.demo, from backend\.demo\n.*sni: backend\.demo`, "xds", "get", "f1", "cds", "backend.demo")
	p.prints(exitUsage, `is sent no cds called "nobody"`, "xds", "get", "f1", "cds", "nobody")
	p.prints(exitUsage, `type "cluster"; allowed: cds, eds`, "xds", "get", "f1", "cluster")
	p.prints(exitUsage, `called "nobody"; connected: demo/backend/b1, demo/frontend/f1`, "xds", "get", "nobody")
	out := p.prints(exitDone, "leaf/backend.demo", "xds", "get", "b1", "-o", "json")
	var sent api.Sent
	if err := json.Unmarshal([]byte(out), &sent); err != nil {
		p.t.Fatal(err)
	}
	if !strings.Contains(out, base64.StdEncoding.EncodeToString([]byte("[redacted]"))) {
		p.t.Error("nothing says that the key was redacted")
	}
	for _, key := range p.keys(back) {
		for _, form := range []string{string(key), base64.StdEncoding.EncodeToString(key), hex.EncodeToString(key)} {
			if strings.Contains(out, form) {
				p.t.Error("a private key is shown")
			}
		}
	}
	for _, r := range sent.Resources { // a leaf's key is base64 within base64
		if r.Type == "sds" && bytes.Contains(decoded(r.Content), []byte("PRIVATE KEY")) {
			p.t.Errorf("%s shows a private key", r.Name)
		}
	}
}

// decoded are all strings of a JSON text that are base64.
func decoded(text []byte) (out []byte) {
	for word := range strings.SplitSeq(string(text), `"`) {
		if b, err := base64.StdEncoding.DecodeString(word); err == nil {
			out = append(out, b...)
		}
	}
	return out
}

func (p *plane) xdsWatch() {
	ctx, cancel := context.WithCancel(p.t.Context())
	defer cancel()
	var b lockedBuffer
	root := newRoot()
	root.SetOut(&b)
	root.SetErr(&b)
	root.SetArgs([]string{"xds", "watch", "f1", "-o", "json", "--admin", "unix:" + controlplane.AdminSocket(p.cfg.Data)})
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(ctx) }()
	n := 0
	envoytest.Eventually(p.t, 20e9, func() error {
		if n++; n%4 == 1 { // the watch may not have been open the last time
			register(p.t, p.cfg.Registry.Listen, fmt.Sprintf("later%d", n), map[string]map[string]string{"a": {"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": fmt.Sprint(freePort(p.t))}})
		}
		pushes := map[string]string{}
		for line := range strings.Lines(b.String()) {
			var e api.Push
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return fmt.Errorf("%w: %s", err, line)
			}
			if e.Event == "push" && e.Type == "cds" && e.Bytes > 0 && strings.HasPrefix(strings.Join(e.Names, ""), "later") {
				pushes[e.Nonce] = e.Node
			}
			if e.Event == "ack" && e.TookSeconds > 0 && pushes[e.Nonce] == "demo/frontend/f1" {
				return nil
			}
		}
		return fmt.Errorf("no cluster was pushed and acknowledged:\n%s", b.String())
	})
	cancel()
	if err := <-done; cli.Code(err) != exitFailed || exitCode(ctx, root, err) != exitDone {
		p.t.Errorf("it did not stop cleanly: %v", err)
	}
	p.prints(exitDone, "", "xds", "watch", "b1", "--for", "10ms")
}

// forecasts says what changed files would change.
func (p *plane) forecasts(port, alias uint16) {
	dir := p.t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			p.t.Fatal(err)
		}
		return path
	}
	same := declares("backend", port, 15000, alias)
	p.prints(exitDone, `no service of the mesh would change`, "diff", "-f", write("same.json", same))
	slow := strings.Replace(same, `"portName": "web",`, `"portName": "web", "timeout": {"perRequestTimeoutSeconds": 7},`, 1)
	p.prints(exitDone, `(?s)~ backend\.demo: changed.*\+ /perRequestTimeout: "7s".*~ rds egress-127\S+: changed, for 1 sidecar \(demo/bind.*\+ .*timeout: "7s".*1 service, 1 resource, 1 sidecar touched: demo/frontend/f1.*no connection would be cut`, "diff", "-f", write("slow.json", slow))
	moved := declares("backend", port, 15000, alias+1)
	out := p.prints(exitDone, `(?s)- lds egress-127\S+: removed.*the applications' connections to this address are closed`, "diff", "-f", write("moved.json", moved))
	if !strings.Contains(out, "would cut connections") {
		p.t.Error(out)
	}
	compose := write("compose.yml", "x-patchbay: {namespace: demo}\nservices:\n  web:\n    image: x\n    x-service-connect:\n      services:\n        - {portName: web, clientAliases: [{port: 80}]}\n      portMappings:\n        - {name: web, containerPort: 80, appProtocol: http}\n")
	p.prints(exitDone, `(?s)\+ web\.demo: added.*\+ cds web\.demo: added, for 1 sidecar`, "diff", "-f", compose, "-o", "wide")
	p.prints(exitDone, `"kind": "added"`, "diff", "-f", compose, "-o", "json")
	p.prints(exitUsage, `portMappings`, "diff", "-f", write("bad.json", `{"serviceConnectConfiguration": {"enabled": true, "services": [{"portName": "x"}]}, "portMappings": []}`))
	p.prints(exitUsage, `name a NODE, or a changed file`, "diff")
	task := write("task.json", `{"family": "web", "containerDefinitions": [{"name": "app", "image": "x", "portMappings": [{"name": "web", "containerPort": 80}]}]}`)
	service := write("service.json", `{"serviceName": "web", "taskDefinition": "web", "serviceConnectConfiguration": {"enabled": true, "services": [{"portName": "web", "clientAliases": [{"port": 80}]}]}}`)
	p.prints(exitUsage, `task\.json: declares no service; allowed: `, "diff", "-f", task)
	p.prints(exitDone, `(?s)\+ web\.demo: added`, "diff", "-f", task, "-f", service, "--namespace", "demo")
	p.prints(exitProblems, `✗ backend\.other: this control plane does not serve the namespace "other": it would be refused\n1 refused change`, "diff", "-f", write("other.json", strings.Replace(same, `"namespace": "demo"`, `"namespace": "other"`, 1)))
	retries := strings.Replace(same, `"portMappings"`, `"policies": {"backend": {"retries": {"max": 0}}}, "portMappings"`, 1)
	p.prints(exitDone, `(?s)~ backend\.demo: changed.*\+ /policies: \{"retries":\{"max":0\}\}`, "diff", "-f", write("retries.json", retries))
	outside := write("outside.yaml", "namespaces: [demo]\ntrustDomain: "+testDomain+"\ncreateNamespaces: true\ndata: "+p.cfg.Data+"\nregistry: {listen: \""+p.cfg.Registry.Listen+"\"}\n"+
		"external:\n  - {name: pay, protocol: tcp, addresses: [\"pay.example:5432\"], alias: {port: 5432}}\ntracing: {collector: \"otel:4317\"}\n")
	p.prints(exitDone, `(?s)tracing is in every listener.*\+ pay\.demo: added.*\+ cds pay\.demo: added, for 1 sidecar`, "diff", "--config", outside)
	// The control plane's own file, without the only namespace.
	cfg := write("patchbay.yaml", "namespaces: [other]\ntrustDomain: "+testDomain+"\ncreateNamespaces: true\ndata: "+p.cfg.Data+"\nregistry: {listen: \""+p.cfg.Registry.Listen+"\"}\n")
	p.prints(exitDone, `(?s)reads its file when it starts.*- /namespaces/0: "demo"|/namespaces/0.*- backend\.demo: removed`, "diff", "--config", cfg)
	if s := p.store(); len(s) != 1 {
		p.t.Errorf("the forecast has changed the mesh: %v", s)
	}
}

// store are the services of the running mesh.
func (p *plane) store() (names []string) {
	var st api.Status
	if err := json.Unmarshal(p.get("/api/v1/status"), &st); err != nil {
		p.t.Fatal(err)
	}
	for _, s := range st.Services {
		names = append(names, s.Name)
	}
	return names
}

func (p *plane) diff(front *member) {
	p.prints(exitDone, `✓ demo/frontend/f1 has what it should have: \d+ resources \(\d+ cds, \d+ eds, \d+ lds, \d+ rds, \d+ sds\)`, "diff", "f1")
	p.prints(exitDone, `✓ demo/backend/b1 has`, "diff", "b1")
	p.ejects(front)
	// A listener whose address is somebody else's: Envoy can't have it.
	busy := netip.AddrPortFrom(mesh.PickVIP("busy.demo", func(netip.Addr) bool { return false }), uint16(freePort(p.t)))
	l, err := net.Listen("tcp", busy.String())
	if err != nil {
		p.t.Fatal(err)
	}
	register(p.t, p.cfg.Registry.Listen, "busy", map[string]map[string]string{"a": {"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": fmt.Sprint(busy.Port())}})
	p.prints(exitProblems, `(?s)1 of \d+ resources differ.*\+ lds egress-127\S+: Envoy does not have it\n +.*cannot bind`, "diff", "f1")
	out := p.prints(exitProblems, `"kind": "lacking"`, "diff", "f1", "-o", "json")
	if strings.Count(out, `"kind"`) != 1 {
		p.t.Errorf("%s", out)
	}
	l.Close()
}

// ejects: a host that Envoy avoids on its own is no difference.
func (p *plane) ejects(front *member) {
	nobody := uint16(freePort(p.t))
	register(p.t, p.cfg.Registry.Listen, "dead", map[string]map[string]string{"a": {"AWS_INSTANCE_IPV4": "127.0.0.1", "AWS_INSTANCE_PORT": fmt.Sprint(nobody)}})
	ejected := func() error {
		if status, task := p.ask("/api/v1/task?node=demo/frontend/f1"); !bytes.Contains(task, []byte("failed_outlier_check")) {
			return fmt.Errorf("no host is ejected: %d", status)
		}
		return nil
	}
	envoytest.Eventually(p.t, 90e9, func() error {
		for range 10 {
			if text, err := front.get("dead.demo", nobody); err == nil {
				return fmt.Errorf("a dead host answers %q", text)
			}
		}
		if err := ejected(); err != nil {
			return err
		}
		out, code := p.command("diff", "f1")
		if err := ejected(); err != nil {
			return err // not any more: it may have ended before Envoy was asked
		}
		if strings.Contains(out, "health_status") {
			p.t.Fatalf("Envoy's own verdict is a difference:\n%s", out)
		}
		if code != exitDone {
			return fmt.Errorf("exit code %d:\n%s", code, out)
		}
		return nil
	})
}

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
	"strings"
	"testing"

	"patchbay/admin/api"
	"patchbay/internal/envoytest"
	"patchbay/mesh"
)

// TestInspect is what an operator sees of single sidecars, on one real mesh.
func TestInspect(t *testing.T) {
	p := startPlane(t)
	_, port := listen(t, "hello")
	alias := uint16(freePort(t))
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	back := p.sidecar(p.joinDir("backend", "backend"), "b1", offering(t, "backend", port, alias))
	front.until(serving)
	back.until(serving)
	front.answers("backend.demo", alias, "hello")

	t.Run("xds get", func(t *testing.T) { p.on(t).xdsGet(back) })
	t.Run("xds watch", func(t *testing.T) { p.on(t).xdsWatch() })
	t.Run("fault", func(t *testing.T) { p.on(t).faults(front, alias) })
	t.Run("diff", func(t *testing.T) { p.on(t).diff() })
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
	p.prints(exitFailed, `is sent no cds called "nobody"`, "xds", "get", "f1", "cds", "nobody")
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
	for _, word := range strings.Split(string(text), `"`) {
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
	root.SetArgs([]string{"xds", "watch", "f1", "-o", "json", "--admin", "unix:" + adminSocket(p.cfg.Data)})
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
	if err := <-done; code(err) != exitFailed || exitCode(ctx, root, err) != exitDone {
		p.t.Errorf("it did not stop cleanly: %v", err)
	}
	p.prints(exitDone, "", "xds", "watch", "b1", "--for", "10ms")
}

func (p *plane) diff() {
	p.prints(exitDone, `✓ demo/frontend/f1 has what it should have: \d+ resources \(\d+ cds, \d+ eds, \d+ lds, \d+ rds, \d+ sds\)`, "diff", "f1")
	p.prints(exitDone, `✓ demo/backend/b1 has`, "diff", "b1")
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

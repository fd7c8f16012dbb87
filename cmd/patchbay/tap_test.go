package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patchbay/admin/api"
	"patchbay/audit"
	"patchbay/controlplane"
	"patchbay/internal/envoytest"
	"patchbay/sidecar/envoy"
	"patchbay/xds/bootstrap"
)

// secretWord is in a query and in headers, and is never to be shown.
const secretWord = "canary-6d1f3a"

// tapping is a `patchbay tap` that runs.
type tapping struct {
	t        *testing.T
	out, err *lockedBuffer
	stop     context.CancelFunc
	done     chan error
}

// tap starts one and waits until its sidecar shows requests.
func (p *plane) tap(args ...string) *tapping {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	k := &tapping{p.t, &lockedBuffer{}, &lockedBuffer{}, cancel, make(chan error, 1)}
	root := newRoot()
	root.SetOut(k.out)
	root.SetErr(k.err)
	root.SetArgs(append([]string{"tap", "-o", "json", "--admin", "unix:" + controlplane.AdminSocket(p.cfg.Data)}, args...))
	go func() { k.done <- root.ExecuteContext(ctx) }()
	p.t.Cleanup(cancel)
	envoytest.Eventually(p.t, 20e9, func() error {
		if !strings.Contains(k.err.String(), "% of its requests are looked at") {
			return fmt.Errorf("no tap yet: %s", k.err)
		}
		return nil
	})
	return k
}

// sees waits for a request that is as wanted. next makes them: a sidecar that has
// just been told may miss the first.
func (k *tapping) sees(next func(), is func(api.Tapped) bool) api.Tapped {
	k.t.Helper()
	var found *api.Tapped
	envoytest.Eventually(k.t, 20e9, func() error {
		next()
		for line := range strings.Lines(k.out.String()) {
			r := &api.Tapped{}
			if err := json.Unmarshal([]byte(line), r); err != nil {
				return fmt.Errorf("%w: %s", err, line)
			}
			if is(*r) {
				found = r
				return nil
			}
		}
		return fmt.Errorf("not seen: %s %s", k.out, k.err)
	})
	if strings.Contains(k.out.String()+k.err.String(), secretWord) {
		k.t.Errorf("a secret is shown: %s", k.out)
	}
	return *found
}

// end is Ctrl-C.
func (k *tapping) end() {
	k.t.Helper()
	k.stop()
	if err := <-k.done; !errors.Is(err, context.Canceled) {
		k.t.Errorf("ended with %v: %s", err, k.err)
	}
}

// quiet waits until the sidecar's Envoy shows nothing any more.
func (m *member) quiet() {
	m.t.Helper()
	admin := envoy.NewAdmin(filepath.Join(m.state, "admin.sock"))
	envoytest.Eventually(m.t, 20e9, func() error {
		got, err := admin.Runtime(m.t.Context())
		if err == nil && len(got) > 0 {
			err = fmt.Errorf("Envoy's runtime still has %v", got)
		}
		return err
	})
}

// taps shows requests through both sidecars.
func (p *plane) taps(front, back *member, alias uint16) {
	t := p.t
	call := func() { p.callsWithSecrets(t.Context(), front, alias) }
	k := p.tap("frontend")
	r := k.sees(call, func(r api.Tapped) bool { return r.Path == "/a/b" })
	if r.Node != "demo/frontend/f1" || r.Direction != "egress" || r.Service != "backend.demo" || r.Method != http.MethodGet || r.Status != 200 || r.Protocol != "HTTP/1.1" ||
		r.TLS != "TLSv1.3" || !strings.Contains(r.Callee, "backend") || r.Upstream == "" || r.Sent == 0 || r.DurationMs <= 0 || len(r.Flags) > 0 || len(r.Headers) > 0 {
		t.Errorf("egress: %+v", r)
	}
	p.prints(exitFailed, `demo/frontend/f1: its requests are shown to somebody already, until \d\d:\d\d:\d\dZ`, "tap", "demo/frontend/f1", "--for", "1s")
	k.end()
	front.quiet()

	k = p.tap("backend.demo", "--headers", "--path", "/a/")
	r = k.sees(call, func(api.Tapped) bool { return true })
	if r.Node != "demo/backend/b1" || r.Direction != "ingress" || r.Service != "backend.demo" || r.TLS != "TLSv1.3" || r.From == "" || r.Headers["accept"] != "text/plain" {
		t.Errorf("ingress: %+v", r)
	}
	for _, name := range bootstrap.TapSecrets {
		if r.Headers[name] != "[redacted]" {
			t.Errorf("%s: %s", name, r.Headers[name])
		}
	}
	k.end()
	back.quiet()

	k = p.tap("f1", "--status", "5xx", "--direction", "egress")
	ctx, cancel := context.WithCancel(t.Context())
	broken := make(chan error, 1)
	go func() {
		root := newRoot()
		root.SetOut(io.Discard)
		root.SetArgs([]string{"fault", "abort", "backend.demo", "503", "--percent", "50", "--admin", "unix:" + controlplane.AdminSocket(p.cfg.Data)})
		broken <- root.ExecuteContext(ctx)
	}()
	r = k.sees(call, func(api.Tapped) bool { return true })
	if r.Status != 503 || strings.Join(r.Flags, ",") != "fault injected" {
		t.Errorf("with a fault: %+v", r)
	}
	cancel()
	if err := <-broken; err != nil {
		t.Error(err)
	}
	if strings.Contains(k.out.String(), `"status":200`) {
		t.Errorf("--status 5xx shows others: %s", k.out)
	}
	k.end()
	p.tapErrors()
	if log, err := os.ReadFile(audit.File(p.cfg.Data)); err != nil || !bytes.Contains(log, []byte(`"method":"POST /api/v1/tap"`)) || !bytes.Contains(log, []byte("name=backend.demo")) {
		t.Errorf("the audit log says nothing of taps: %v\n%s", err, log)
	}
}

func (p *plane) tapErrors() {
	p.prints(exitUsage, `called "fronted"; did you mean .*frontend`, "tap", "fronted")
	p.prints(exitUsage, `(?s)status "6xx"; allowed: such as.*path "x"; allowed: how paths begin`, "tap", "f1", "--status", "6xx", "--path", "x")
	p.prints(exitDone, `(?s)requests through 1 sidecar, for 100ms\n.*demo/frontend/f1: 0\.5 % of its requests are looked at`, "tap", "f1", "--sample", "0.5", "--for", "100ms")
}

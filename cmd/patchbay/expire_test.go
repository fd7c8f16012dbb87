package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patchbay/admin/api"
	"patchbay/controlplane"
	"patchbay/internal/envoytest"
	"patchbay/sidecar/envoy"
)

// expires lets the certificate of a service end: callers refuse it, the
// diagnoses say that it is on purpose, and the service's own, which was stored
// all the time, comes back.
func (p *plane) expires(front *member, alias uint16) {
	t := p.t
	secrets := p.secretFiles(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &lockedBuffer{}
	done := make(chan error, 1)
	begin := func() {
		root := newRoot()
		root.SetOut(out)
		root.SetErr(out)
		root.SetArgs([]string{"fault", "expire", "backend.demo", "--life", "4s", "--for", "2m", "--admin", "unix:" + controlplane.AdminSocket(p.cfg.Data), "-o", "json"})
		done <- root.ExecuteContext(ctx)
	}
	go begin()
	url := fmt.Sprintf("http://backend.demo:%d/", alias)
	envoytest.Eventually(t, 60e9, func() error {
		select {
		case err := <-done: // a machine that is busy may find the certificate too old already
			go begin()
			return fmt.Errorf("no fault: %v %s", err, out)
		default:
		}
		got, code := p.command("explain", "f1", url)
		if code != exitProblems || !strings.Contains(got, "PB1204") || !strings.Contains(got, "on purpose") {
			return fmt.Errorf("%d: %s", code, got)
		}
		return nil
	})
	p.prints(exitProblems, `(?s)PB1204 a certificate has expired: backend\.demo\n.*on purpose \(patchbay fault expire\)`, "doctor")
	p.prints(exitFailed, `is to expire already: one at a time`, "fault", "expire", "backend.demo", "--life", "1m", "--for", "2m")
	// Connections that stand go on: an endpoint that goes takes them with it.
	admin := envoy.NewAdmin(filepath.Join(front.state, "admin.sock"))
	envoytest.Eventually(t, 60e9, func() error {
		p.command("fault", "drop", "backend.demo", "--for", "300ms")
		got, err := front.get("backend.demo", alias)
		if err == nil {
			return fmt.Errorf("the service answers %q", got)
		}
		stats, failed := admin.Stats(t.Context(), `^cluster\.backend\.demo\.ssl\.fail_verify_error$`)
		if failed != nil || stats["cluster.backend.demo.ssl.fail_verify_error"] == 0 {
			return fmt.Errorf("no certificate was refused: %w, %w", err, failed)
		}
		return nil
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	var rows []api.Suffered
	if err := json.Unmarshal([]byte(out.String()), &rows); err != nil || len(rows) != 1 || rows[0].Distrusted < 1 || rows[0].Failed < 1 {
		t.Errorf("%v: %s", err, out)
	}
	envoytest.Eventually(t, 60e9, func() error { // Envoy may have ejected the endpoint
		_, err := front.get("backend.demo", alias)
		return err
	})
	p.prints(exitDone, ``, "verify", "backend.demo")
	if now := p.secretFiles(t); now != secrets {
		t.Error("what is stored has changed")
	}
}

// secretFiles are the contents of the secret store.
func (p *plane) secretFiles(t *testing.T) (all string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.cfg.Data, "secrets", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no secrets: %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all += f + "\n" + string(b)
	}
	return all
}

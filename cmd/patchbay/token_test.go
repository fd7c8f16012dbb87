package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
	"patchbay/identity/join"
	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

func patchbay(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("patchbay %v: %v\n%s", args, err, out.String())
	}
	return out.String()
}

// TestTokensWhileServing: the control plane follows what the commands change
// on its data directory, without a restart.
func TestTokensWhileServing(t *testing.T) {
	p := startPlane(t)
	out := filepath.Join(t.TempDir(), "join")
	workload := []string{"--data", p.cfg.Data, "--namespace", "demo", "--workload", "late"}
	patchbay(t, append([]string{"token", "join", "--out", out}, workload...)...)
	m := join.New(join.Config{Dir: out, Control: join.NewAddresses(p.cfg.Agent.Listen), Task: "t1", State: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err := m.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(p.cfg.Agent.Listen, grpc.WithTransportCredentials(m.Credentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	renew := func() error {
		_, err := agentapi.NewEnrolmentClient(conn).Renew(t.Context(), &agentapi.RenewRequest{})
		return err
	}
	if err := renew(); status.Code(err) != codes.InvalidArgument { // it has no CSR
		t.Errorf("renew: %v", err)
	}
	patchbay(t, append([]string{"token", "withdraw", "--all"}, workload...)...)
	envoytest.Eventually(t, 10*time.Second, func() error {
		if err := renew(); status.Code(err) != codes.PermissionDenied {
			return fmt.Errorf("after the withdrawal: %w", err)
		}
		return nil
	})
}

// TestEnvoyFollowsItsNodeCertificate: a real Envoy takes up the certificate that
// the agent has renewed, and is cut off when the join key of the one before is
// withdrawn.
func TestEnvoyFollowsItsNodeCertificate(t *testing.T) {
	p := startPlane(t)
	y := p.party("web", "t1")
	for name, content := range bootstrap.SDSFiles(y.state) {
		if err := os.WriteFile(filepath.Join(y.state, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.start(&task{id: y.member.Node().ID(), dir: y.state}, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind})
	opened := func(want int) {
		t.Helper()
		envoytest.Eventually(t, 20*time.Second, func() error {
			log, err := os.ReadFile(p.log)
			if n := strings.Count(string(log), `msg="stream open" node=demo/web/t1`); n != want {
				return fmt.Errorf("%d streams were opened, want %d", n, want)
			}
			return err
		})
	}
	opened(1)
	workload := []string{"--data", p.cfg.Data, "--namespace", "demo", "--workload", "web"}
	old, err := join.Load(y.out)
	if err != nil {
		t.Fatal(err)
	}
	patchbay(t, append([]string{"token", "join", "--new-key", "--out", y.out}, workload...)...)
	// The agent's minute, shortened: it starts again and has lost its certificate.
	if err := os.Remove(filepath.Join(y.state, "current")); err != nil {
		t.Fatal(err)
	}
	if err := y.member.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	patchbay(t, append([]string{"token", "withdraw", "--key=" + old.KeyID}, workload...)...)
	opened(2)
}

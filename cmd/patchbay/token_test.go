package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
	"patchbay/identity/join"
	"patchbay/internal/envoytest"
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
	m := join.New(join.Config{Dir: out, Addr: p.cfg.Agent.Listen, Task: "t1", State: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
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

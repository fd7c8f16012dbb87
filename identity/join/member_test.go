package join_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
	"patchbay/identity"
	"patchbay/identity/join"
)

func TestJoinThenRenew(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.token(r.request("backend"))
		m := r.joined("backend")
		if n := m.Node(); n.ID() != "demo/backend/t1" || !slices.Equal(n.Workload.DiscoveryNames, []string{"backend"}) {
			t.Errorf("joined as %v", n)
		}
		first := r.onDisk()
		if !m.NotAfter().Equal(first.NotAfter) || time.Until(m.NotAfter()) != identity.NodeLife {
			t.Errorf("the certificate ends at %v", m.NotAfter())
		}
		for _, name := range []string{"cert.pem", "key.pem", "ca.pem"} {
			if st, err := os.Stat(filepath.Join(r.state(), "current", name)); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", name, st, err)
			}
		}
		end := r.running(m.Run)
		time.Sleep(11 * time.Hour)
		if r.plane.count("how=renewed") != 0 {
			t.Error("renewed before half of its life")
		}
		time.Sleep(4 * time.Hour)
		second := r.onDisk()
		if r.plane.count("how=renewed") != 1 || serial(first) == serial(second) {
			t.Error("not renewed after six tenths of its life")
		}
		// The certificate before the present one stays for Envoy, no other.
		time.Sleep(48 * time.Hour)
		if dirs, _ := filepath.Glob(filepath.Join(r.state(), "v-*")); len(dirs) != 2 {
			t.Errorf("the state directory holds %v", dirs)
		}
		if node, err := r.connect(m, time.Second); node != "demo/backend/t1" || status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("connected as %q, %v", node, err)
		}
		if err := end(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		for where, log := range map[string]string{"plane": r.plane.String(), "agent": r.agent.String()} {
			if strings.Contains(log, "PRIVATE") || strings.Contains(log, "eyJ") {
				t.Errorf("a key or a proof in the log of the %s", where)
			}
		}
	})
}

func TestExpiredCertificateEnrolsAnew(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.token(r.request("backend"))
		m := r.joined("backend")
		time.Sleep(identity.NodeLife + time.Hour) // the machine was asleep
		if _, err := r.connect(m, time.Second); err == nil || status.Code(err) == codes.DeadlineExceeded {
			t.Errorf("connected with an expired certificate: %v", err)
		}
		synctest.Wait()
		r.says("control plane's log", r.plane.String(), "refused on the control channel", "expired")
		end := r.running(m.Run)
		synctest.Wait()
		if r.plane.count("how=enrolled") != 2 || time.Until(m.NotAfter()) != identity.NodeLife {
			t.Errorf("not enrolled anew; the certificate ends at %v", m.NotAfter())
		}
		if node, err := r.connect(m, time.Second); node == "" {
			t.Error(err)
		}
		end()
	})
}

func TestARestartKeepsTheCertificate(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.token(r.request("backend"))
		first := r.joined("backend")
		r.mu.Lock()
		lis := r.lis
		r.lis = nil // the control plane is away
		r.mu.Unlock()
		again := r.joined("backend")
		if !again.NotAfter().Equal(first.NotAfter()) || again.Node().ID() != first.Node().ID() {
			t.Errorf("restarted as %v until %v", again.Node(), again.NotAfter())
		}
		r.says("agent's log", r.agent.String(), "kept the node certificate of an earlier run")
		r.mu.Lock()
		r.lis = lis
		r.mu.Unlock()
		if node, err := r.connect(again, time.Second); node == "" {
			t.Error(err)
		}
		// Not that of another workload that used the state directory before.
		r.token(r.request("frontend"))
		if other := r.joined("frontend"); other.Node().ID() != "demo/frontend/t1" || r.plane.count("how=enrolled") != 2 {
			t.Errorf("joined as %v", other.Node())
		}
	})
}

// Envoy's user may be another one at the next start, or the state directory a
// copy that root has made: what is kept must be Envoy's to read.
func TestAKeptCertificateIsEnvoysToRead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	bubble(t, func(t *testing.T, r *rig) {
		r.token(r.request("backend"))
		for n, uid := range []int{101, 1000, 101} {
			m := r.memberAs("backend", uid)
			if err := m.Join(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{".", "current", "current/cert.pem", "current/key.pem", "current/ca.pem"} {
				info, err := os.Stat(filepath.Join(r.state(), name))
				if err != nil {
					t.Fatal(err)
				}
				if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != uid {
					t.Errorf("start %d, as %d: %s is %d's", n+1, uid, name, st.Uid)
				}
			}
		}
		if n := r.plane.count("how=enrolled"); n > 1 {
			t.Errorf("enrolled %d times", n)
		}
	})
}

func TestWaitsForTheControlPlaneAndSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.mu.Lock()
		lis := r.lis
		r.lis = nil
		r.mu.Unlock()
		m := r.member("backend")
		end := r.running(m.Join)
		time.Sleep(10 * time.Second)
		r.says("agent's log", r.agent.String(), "waiting to join the mesh", r.dir("backend"), "no such file", "patchbay token join")
		r.token(r.request("backend"))
		time.Sleep(5 * time.Minute)
		r.says("agent's log", r.agent.String(), "connection refused", "control:18001")
		r.says("Failure", m.Failure(), "connection refused")
		if n := r.agent.count("waiting to join the mesh"); n < 4 || n > 10 {
			t.Errorf("told %d times in five minutes", n)
		}
		r.mu.Lock()
		r.lis = lis
		r.mu.Unlock()
		time.Sleep(20 * time.Second)
		if m.Failure() != "" || m.Node().ID() != "demo/backend/t1" {
			t.Errorf("not joined: %s", m.Failure())
		}
		if err := end(); err != nil {
			t.Errorf("Join returned %v", err)
		}
		// A control plane that goes away later takes nothing: the certificate
		// goes on to count, and is renewed when it is back.
		r.mu.Lock()
		r.lis = nil
		r.mu.Unlock()
		end = r.running(m.Run)
		time.Sleep(15 * time.Hour)
		r.says("agent's log", r.agent.String(), "the node certificate is not renewed", "certificate_left=9h")
		before := r.onDisk()
		r.mu.Lock()
		r.lis = lis
		r.mu.Unlock()
		time.Sleep(20 * time.Second)
		if serial(before) == serial(r.onDisk()) || m.Failure() != "" {
			t.Errorf("not renewed: %s", m.Failure())
		}
		end()
	})
}

func TestJoinEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		end := r.running(r.member("backend").Join)
		time.Sleep(time.Minute)
		if err := end(); !errors.Is(err, context.Canceled) {
			t.Errorf("Join returned %v", err)
		}
	})
}

func TestCAReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.token(r.request("backend"))
		m := r.joined("backend")
		kept := m.Credentials() // by an agent, for its life
		end := r.running(m.Run)
		must(t, os.RemoveAll(identity.ControlDir(r.data)))
		r.token(r.request("backend")) // same key, new ca.pem
		stop := r.serve()
		defer stop()
		time.Sleep(2 * time.Minute)
		if node, err := r.connectWith(kept, time.Second); node != "demo/backend/t1" {
			t.Errorf("connected as %q, %v", node, err)
		}
		ca, err := os.ReadFile(filepath.Join(r.dir("backend"), join.CAFile))
		must(t, err)
		if kept, err := os.ReadFile(filepath.Join(r.state(), "current", "ca.pem")); err != nil || string(kept) != string(ca) {
			t.Errorf("Envoy's CA is not the new one (%v)", err)
		}
		if n := r.plane.count("how=enrolled"); n != 2 {
			t.Errorf("enrolled %d times", n)
		}
		end()
		// Nor is any other control plane trusted, whatever its name.
		must(t, os.RemoveAll(identity.ControlDir(r.data)))
		defer r.serve()()
		if _, err := r.connectWith(kept, time.Second); err == nil || !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("a control plane of another CA: %v", err)
		}
	})
}

func TestKeyRotatedThenWithdrawn(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		old := r.token(r.request("backend"))
		m := r.joined("backend")
		stolen := r.joined("backend") // who has the old key and its certificate
		end := r.running(m.Run)
		req := r.request("backend")
		req.NewKey = true
		info := r.token(req)
		time.Sleep(90 * time.Second)
		if r.plane.count("key_id="+info.KeyID) != 1 {
			t.Fatal("the agent did not take the new key")
		}
		began := time.Now()
		var ended time.Time
		cut := r.running(func(context.Context) error {
			_, err := r.connect(stolen, time.Hour)
			ended = time.Now()
			return err
		})
		time.Sleep(30 * time.Second)
		withdrawn := time.Now()
		if withdrawn.Sub(began) != 30*time.Second || !ended.IsZero() {
			t.Fatal("the stream did not last")
		}
		if _, err := identity.Withdraw(r.data, "demo", "backend", old.KeyID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if err := cut(); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "not registered any more") {
			t.Errorf("the stream ended with %v", err)
		}
		if d := ended.Sub(withdrawn); d > 6*time.Second {
			t.Errorf("the stream was cut %v after", d)
		}
		if node, err := r.connect(m, time.Second); node == "" {
			t.Errorf("the new key's node is refused: %v", err)
		}
		end()
	})
}

// TestARefusedConnectionIsClosed: gRPC keeps a connection for all its streams,
// with the certificate that it began with.
func TestARefusedConnectionIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		old := r.token(r.request("backend"))
		m := r.joined("backend")
		end := r.running(m.Run)
		conn, err := grpc.NewClient("passthrough:///control", grpc.WithTransportCredentials(m.Credentials()), grpc.WithContextDialer(r.dial))
		must(t, err)
		defer conn.Close()
		stream := func() agentapi.Agent_ConnectClient {
			s, err := agentapi.NewAgentClient(conn).Connect(t.Context(), grpc.WaitForReady(true))
			must(t, err)
			return s
		}
		first := stream()
		_, err = first.Recv()
		must(t, err)
		req := r.request("backend")
		req.NewKey = true
		r.token(req)
		time.Sleep(90 * time.Second)
		_, err = identity.Withdraw(r.data, "demo", "backend", old.KeyID)
		must(t, err)
		if _, err := first.Recv(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("the stream ended with %v", err)
		}
		time.Sleep(5 * time.Second)
		if _, err := stream().Recv(); err != nil {
			t.Errorf("with the new certificate: %v", err)
		}
		end()
	})
}

package join_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"

	"patchbay/agentapi"
	"patchbay/identity"
	"patchbay/identity/join"
	"patchbay/identity/registered"
	"patchbay/mesh"
)

const domain = "test.patchbay"

// book is a log that can be read while it is written.
type book struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *book) count(s string) int { return strings.Count(b.String(), s) }

func (b *book) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// rig is a control plane's port for agents, which can be away, and what a task
// needs. The path between them is TLS over memory; all of it runs on the
// bubble's clock.
type rig struct {
	t          *testing.T
	data, base string
	plane      *book // the control plane's log
	agent      *book // the agents'

	mu     sync.Mutex
	lis    *bufconn.Listener
	tamper func(*agentapi.EnrolRequest) // what the network does to requests
	replay bool                         // each request arrives twice; the answer is the second's
}

var errAway = errors.New("connection refused")

// bubble runs f with a control plane that is up.
func bubble(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	data, base := filepath.Join(t.TempDir(), "data"), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, data: data, base: base, plane: &book{}, agent: &book{}}
		defer func() {
			if t.Failed() {
				t.Logf("control plane:\n%s\nagent:\n%s", r.plane, r.agent)
			}
		}()
		stop := r.serve()
		defer func() { stop() }()
		f(t, r)
	})
}

// serve starts a control plane on the data directory; one that is up must be
// stopped first.
func (r *rig) serve() (stop func()) {
	r.t.Helper()
	return r.port(true)
}

// port starts the port for agents, or that for Envoys.
func (r *rig) port(agents bool) (stop func()) {
	r.t.Helper()
	signer, err := identity.OpenSigner(identity.ControlDir(r.data), domain)
	if err != nil {
		r.t.Fatal(err)
	}
	workloads := registered.New(registered.Dir(r.data), r.plane.logger())
	enrolment, err := identity.NewServer(r.data, signer, workloads, r.plane.logger())
	if err != nil {
		r.t.Fatal(err)
	}
	guard := identity.NewGuard(signer, workloads, r.plane.logger())
	server := grpc.NewServer(append(guard.Options(), grpc.Creds(guard.Credentials(agents)), grpc.ChainUnaryInterceptor(r.network))...)
	if agents {
		agentapi.RegisterEnrolmentServer(server, enrolment)
		agentapi.RegisterAgentServer(server, who{})
	}
	lis := bufconn.Listen(1 << 16)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(lis) }()
	r.mu.Lock()
	r.lis = lis
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		if r.lis == lis {
			r.lis = nil
		}
		r.mu.Unlock()
		server.Stop()
		<-done
	}
}

func (r *rig) network(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	r.mu.Lock()
	tamper, replay := r.tamper, r.replay
	r.mu.Unlock()
	if e, ok := req.(*agentapi.EnrolRequest); ok && tamper != nil {
		tamper(e)
	}
	if replay {
		if _, err := next(ctx, req); err != nil {
			return nil, err
		}
	}
	return next(ctx, req)
}

func (r *rig) set(tamper func(*agentapi.EnrolRequest), replay bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tamper, r.replay = tamper, replay
}

func (r *rig) dial(ctx context.Context, _ string) (net.Conn, error) {
	r.mu.Lock()
	lis := r.lis
	r.mu.Unlock()
	if lis == nil {
		return nil, errAway
	}
	return lis.DialContext(ctx)
}

// who answers with the node that the guard found, then waits.
type who struct {
	agentapi.UnimplementedAgentServer
}

func (who) Connect(s grpc.BidiStreamingServer[agentapi.Up, agentapi.Down]) error {
	n, err := identity.FromContext(s.Context())
	if err != nil {
		return err
	}
	if err := s.Send(&agentapi.Down{Message: &agentapi.Down_Welcome{Welcome: &agentapi.Welcome{ControlPlane: n.ID()}}}); err != nil {
		return err
	}
	<-s.Context().Done()
	return s.Context().Err()
}

func (r *rig) request(workload string) identity.JoinRequest {
	return identity.JoinRequest{
		Data: r.data, TrustDomain: domain, Out: r.dir(workload),
		Workload: mesh.Workload{Namespace: "demo", Name: workload, DiscoveryNames: []string{workload}},
	}
}

func (r *rig) dir(workload string) string { return filepath.Join(r.base, "join", workload) }

// token does what `patchbay token join` does.
func (r *rig) token(req identity.JoinRequest) join.Info {
	r.t.Helper()
	os.MkdirAll(filepath.Dir(req.Out), 0o700)
	made, err := identity.MakeJoin(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return made.Info
}

func (r *rig) state() string { return filepath.Join(r.base, "state") }

func (r *rig) member(workload string) *join.Member { return r.memberAs(workload, 0) }

// memberAs is member, whose Envoy is another user.
func (r *rig) memberAs(workload string, uid int) *join.Member {
	return join.New(join.Config{
		Dir: r.dir(workload), Control: join.NewAddresses("control:18001"), Task: "t1", State: r.state(), UID: uid, Log: r.agent.logger(), Dial: r.dial,
	})
}

// joined is a member that has joined.
func (r *rig) joined(workload string) *join.Member {
	r.t.Helper()
	m := r.member(workload)
	if err := m.Join(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// running starts f and returns how to end it and hear its error.
func (r *rig) running(f func(context.Context) error) (end func() error) {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return func() error { cancel(); return <-done }
}

// onDisk is the certificate that Envoy would read.
func (r *rig) onDisk() *x509.Certificate {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.state(), "current", "cert.pem"))
	if err != nil {
		r.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		r.t.Fatal(err)
	}
	return cert
}

// connect opens a stream as the member; the error is how it ended within d.
func (r *rig) connect(m *join.Member, d time.Duration) (node string, err error) {
	return r.connectWith(m.Credentials(), d)
}

func (r *rig) connectWith(creds credentials.TransportCredentials, d time.Duration) (node string, err error) {
	conn, err := grpc.NewClient("passthrough:///control", grpc.WithTransportCredentials(creds), grpc.WithContextDialer(r.dial))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(r.t.Context(), d)
	defer cancel()
	stream, err := agentapi.NewAgentClient(conn).Connect(ctx)
	if err != nil {
		return "", err
	}
	first, err := stream.Recv()
	if err != nil {
		return "", err
	}
	_, err = stream.Recv()
	return first.GetWelcome().GetControlPlane(), err
}

// says holds a text against what it must say.
func (r *rig) says(where, text string, want ...string) {
	r.t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			r.t.Errorf("%s does not say %q:\n%s", where, w, text)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func serial(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }

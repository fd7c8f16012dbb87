package containers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"patchbay/demo/evidence"
	"patchbay/demo/report"
	"patchbay/internal/poll"
)

// proof is one row of the report. They run in order: later ones build on what
// earlier ones started.
type proof struct {
	id, title string
	run       func(context.Context, *mesh) (report.Figure, error)
}

var proofs = []proof{
	{"up", "docker-compose up, and nothing else", proveUp},
	{"request", "a request through two Envoys", proveRequest},
	{"client-only", "the caller has no certificate", proveClientOnly},
	{"tls13-only", "the port: TLS 1.3, nothing else", proveTLS13},
	{"certificate", "chain, SAN and lifetime", proveCertificate},
	{"protocol-http2", "http2", proveHTTP2},
	{"protocol-grpc", "grpc", proveGRPC},
	{"protocol-tcp", "tcp, the server speaks first", proveTCP},
	{"same-port", "an app on :8080 calls an alias on port 8080", proveSamePort},
	{"outside", "what is not in the mesh is untouched", proveOutside},
	{"admin", "the admin API from the host, with a token", proveAdmin},
	{"scale", "--scale backend=3", proveScale},
	{"new-service", "a new service in the running app's hosts file", proveNewService},
	{"tls-switch", "TLS is switched on under load", proveTLSSwitch},
	{"rotation", "a leaf rotates under load", proveRotation},
	{"crash", "a backend crashes under load", proveCrash},
	{"control-plane-killed", "control plane and registry killed for 20 s", proveKilled},
	{"back", "the crashed backend serves again", proveBack},
	{"restart-app", "the app's container restarts", proveRestartApp},
	{"restart-envoy", "Envoy's container restarts", proveRestartEnvoy},
	{"drain", "--scale backend=2 under load", proveDrain},
	{"down", "docker-compose down leaves nothing", proveDown},
}

const backendURL = "http://backend.demo:8080/"

func proveUp(ctx context.Context, m *mesh) (report.Figure, error) {
	if err := m.down(ctx); err != nil { // what a killed run left
		return report.Figure{}, err
	}
	m.started = time.Now()
	if _, err := m.run(ctx, "up", "-d"); err != nil {
		return report.Figure{}, err
	}
	return report.Figure{Value: time.Since(m.started).Seconds(), Unit: "s", Detail: "until Compose says that all is up"}, nil
}

func proveRequest(ctx context.Context, m *mesh) (report.Figure, error) {
	var out string
	err := poll.Until(ctx, patience, func() (err error) {
		out, err = m.get(ctx, backendURL)
		return err
	})
	if err != nil {
		return report.Figure{}, err
	}
	first := time.Since(m.started)
	front, err := m.one(ctx, "frontend-sidecar")
	if err != nil {
		return report.Figure{}, err
	}
	egress, err1 := front.counter(ctx, "cluster.backend.demo.upstream_rq_total")
	secure, err2 := front.counter(ctx, "cluster.backend.demo.ssl.versions.TLSv1.3")
	backends, err3 := m.containers(ctx, "backend")
	ingress := 0
	for _, b := range backends {
		n, err := b.counter(ctx, "http.ingress.downstream_rq_total")
		err3 = errors.Join(err3, err)
		ingress += n
	}
	err = errors.Join(err1, err2, err3)
	if err == nil && (egress == 0 || secure == 0 || ingress == 0) {
		err = fmt.Errorf("the Envoys counted %d requests out, %d in, %d TLS 1.3 connections", egress, ingress, secure)
	}
	return report.Figure{Value: first.Seconds(), Unit: "s", Detail: fmt.Sprintf("from up to the first answer, of %s; Envoys counted %d out, %d in", out, egress, ingress)}, err
}

func proveClientOnly(ctx context.Context, m *mesh) (report.Figure, error) {
	front, err := m.one(ctx, "frontend-sidecar")
	if err != nil {
		return report.Figure{}, err
	}
	text, err := front.envoy(ctx, "/config_dump?resource=dynamic_active_secrets")
	if err != nil {
		return report.Figure{}, err
	}
	if err := evidence.NoLeaf(text); err != nil {
		return report.Figure{}, err
	}
	return report.Figure{Detail: "the frontend's Envoy holds trust, and no leaf"}, nil
}

func proveTLS13(ctx context.Context, m *mesh) (report.Figure, error) {
	backends, err := m.containers(ctx, "backend")
	if err != nil {
		return report.Figure{}, err
	}
	b := backends[0]
	anyone := &tls.Config{ServerName: "backend.demo", InsecureSkipVerify: true} //nolint:gosec // the next proof verifies
	if s, err := b.dial(ctx, anyone); err != nil || s.Version != tls.VersionTLS13 {
		return report.Figure{}, errors.Join(fmt.Errorf("TLS 1.3 is not accepted, but version %x", s.Version), err)
	}
	old := anyone.Clone()
	old.MaxVersion = tls.VersionTLS12
	if _, err := b.dial(ctx, old); err == nil {
		return report.Figure{}, errors.New("TLS 1.2 is accepted")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(b.addr, "15010"))
	if err != nil {
		return report.Figure{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second)) // a read that fails is what we hope for
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: backend.demo\r\n\r\n")
	answer := make([]byte, 64)
	if n, _ := conn.Read(answer); strings.HasPrefix(string(answer[:n]), "HTTP/") {
		return report.Figure{}, fmt.Errorf("plain text is answered: %s", answer[:n])
	}
	return report.Figure{Detail: "1.3 accepted; 1.2 and plain text refused"}, nil
}

func proveCertificate(ctx context.Context, m *mesh) (report.Figure, error) {
	backends, err := m.containers(ctx, "backend")
	if err != nil {
		return report.Figure{}, err
	}
	leaf, err := m.leaf(ctx, backends[0])
	if err != nil {
		return report.Figure{}, err
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != "spiffe" || leaf.Subject.CommonName != "" || life > 25*time.Hour {
		err = fmt.Errorf("URIs %v, common name %q, life %v", leaf.URIs, leaf.Subject.CommonName, life)
	}
	return report.Figure{Value: life.Hours(), Unit: "h", Detail: fmt.Sprintf("verified against the CA's root; %v, %v", leaf.DNSNames, leaf.URIs)}, err
}

func proveHTTP2(ctx context.Context, m *mesh) (report.Figure, error) {
	out, err := m.from(ctx, "get", "--http2", "http://backend-h2.demo:8081/")
	return report.Figure{Detail: "prior knowledge, in plain text → " + out}, err
}

func proveGRPC(ctx context.Context, m *mesh) (report.Figure, error) {
	out, err := m.from(ctx, "grpc", "backend-grpc.demo:8082")
	if err == nil && !strings.Contains(out, "SERVING [") {
		err = fmt.Errorf("unexpected answer with its trailer: %s", out)
	}
	return report.Figure{Detail: "grpc.health.v1.Health/Check → " + out}, err
}

func proveTCP(ctx context.Context, m *mesh) (report.Figure, error) {
	out, err := m.from(ctx, "tcp", "backend-tcp.demo:8083")
	if err == nil && !strings.HasSuffix(out, "\nping") {
		err = fmt.Errorf("no greeting and echo: %s", out)
	}
	return report.Figure{Detail: "greeting and echo: " + strings.ReplaceAll(out, "\n", ", ")}, err
}

func proveSamePort(ctx context.Context, m *mesh) (report.Figure, error) {
	own, err := m.get(ctx, "http://127.0.0.1:8080/")
	if err != nil {
		return report.Figure{}, err
	}
	theirs, err := m.get(ctx, backendURL)
	backends, berr := m.containers(ctx, "backend")
	if err = errors.Join(err, berr); err == nil && (own == theirs || !named(backends, theirs)) {
		err = fmt.Errorf("127.0.0.1:8080 is %q, backend.demo:8080 is %q", own, theirs)
	}
	return report.Figure{Detail: fmt.Sprintf("its own 0.0.0.0:8080 answers %s, the alias %s", own, theirs)}, err
}

// named reports whether an answer is that of one of the containers.
func named(all []container, answer string) bool {
	return slices.ContainsFunc(all, func(c container) bool { return c.name == answer })
}

func proveOutside(ctx context.Context, m *mesh) (report.Figure, error) {
	front, err := m.one(ctx, "frontend-sidecar")
	if err != nil {
		return report.Figure{}, err
	}
	id, err := output(ctx, "docker", "run", "-d", "--network", project+"_default", "patchbay-demoapp:dev", "serve", "--name", "database", "--tcp", "0.0.0.0:5432")
	if err != nil {
		return report.Figure{}, err
	}
	defer output(context.WithoutCancel(ctx), "docker", "rm", "-f", id)
	addr, err := output(ctx, "docker", "inspect", "-f", `{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}`, id)
	if err != nil {
		return report.Figure{}, err
	}
	before, err := front.envoy(ctx, "/stats?filter=^listener.egress.*downstream_cx_total")
	if err != nil {
		return report.Figure{}, err
	}
	var out string
	if err := poll.Until(ctx, patience, func() (err error) {
		out, err = m.from(ctx, "tcp", addr+":5432")
		return err
	}); err != nil {
		return report.Figure{}, err
	}
	after, err := front.envoy(ctx, "/stats?filter=^listener.egress.*downstream_cx_total")
	if err == nil && (!strings.Contains(out, "database") || after != before) {
		err = fmt.Errorf("answer %q; Envoy's connections before and after:\n%s%s", out, before, after)
	}
	return report.Figure{Detail: addr + ":5432 reached without Envoy"}, err
}

func proveAdmin(ctx context.Context, m *mesh) (report.Figure, error) {
	if out, err := call(ctx, "GET", "/api/v1/agents", ""); err == nil {
		return report.Figure{}, fmt.Errorf("it answers without a token: %.200s", out)
	}
	token, err := m.token(ctx)
	if err != nil {
		return report.Figure{}, err
	}
	agents, err := call(ctx, "GET", "/api/v1/agents", token)
	if err != nil {
		return report.Figure{}, err
	}
	metrics, err := call(ctx, "GET", "/metrics", token)
	if err == nil && (!strings.Contains(agents, "demo/frontend/") || !strings.Contains(metrics, "patchbay_")) {
		err = fmt.Errorf("agents: %.300s\nmetrics: %.300s", agents, metrics)
	}
	if err != nil {
		return report.Figure{}, err
	}
	published, err := m.published(ctx)
	if err == nil && !slices.Equal(published, []string{"127.0.0.1:18002"}) {
		err = fmt.Errorf("published on the host: %v", published)
	}
	return report.Figure{Detail: "127.0.0.1:18002 is all that is published; without the token it refuses"}, err
}

// published are the addresses of the host that lead to a container.
func (m *mesh) published(ctx context.Context) ([]string, error) {
	ids, err := m.run(ctx, "ps", "-q")
	if err != nil {
		return nil, err
	}
	const format = `{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}}:{{.HostPort}} {{end}}{{end}}`
	out, err := output(ctx, "docker", append([]string{"inspect", "-f", format}, strings.Fields(ids)...)...)
	return strings.Fields(out), err
}

func proveDown(ctx context.Context, m *mesh) (report.Figure, error) {
	start := time.Now()
	if err := m.down(ctx); err != nil {
		return report.Figure{}, err
	}
	took := time.Since(start)
	var left []string
	for _, kind := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"network", "ls", "-q"}} {
		out, err := output(ctx, "docker", append(kind, "--filter", "label=com.docker.compose.project="+project)...)
		if err != nil {
			return report.Figure{}, err
		}
		left = append(left, strings.Fields(out)...)
	}
	if len(left) > 0 {
		return report.Figure{}, fmt.Errorf("left behind: %v", left)
	}
	return report.Figure{Value: took.Seconds(), Unit: "s", Detail: "no container, no volume, no network"}, os.RemoveAll(m.tmp)
}

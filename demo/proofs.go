package demo

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"patchbay/demo/evidence"
	"patchbay/demo/report"
)

// proof is one row of `patchbay demo --once`. They run in order: later ones
// build on the tasks that earlier ones started.
type proof struct {
	id, title string
	run       func(context.Context, *world) (report.Figure, error)
}

var proofs = []proof{
	{"control-plane-ready", "control plane ready", proveReady},
	{"request", "a request through two Envoys", proveRequest},
	{"client-only", "the caller has no certificate", proveClientOnly},
	{"tls13-only", "the port: TLS 1.3, nothing else", proveTLS13},
	{"certificate", "chain, SAN and lifetime", proveCertificate},
	{"protocol-http2", "http2", proveHTTP2},
	{"protocol-grpc", "grpc", proveGRPC},
	{"protocol-tcp", "tcp, the server speaks first", proveTCP},
	{"same-port", "an app on :8080 calls an alias on port 8080", proveSamePort},
	{"outside", "what is not in the mesh is untouched", proveOutside},
	{"join", "a third backend joins and serves", proveJoin},
	{"new-service", "a new service is called from a running task", proveNewService},
	{"tls-switch", "TLS is switched on under load", proveTLSSwitch},
	{"rotation", "a leaf rotates under load", proveRotation},
	{"control-plane-killed", "control plane and registry killed for 20 s", proveKilled},
	{"drain", "a backend stops under load", proveDrain},
	{"memory", "memory of the control plane", proveMemory},
	{"sidecar-memory", "memory of a sidecar agent", proveSidecarMemory},
}

const (
	loadRate    = 500 // requests a second
	backendURL  = "http://backend.demo:8080/"
	ingressPort = 15010 // of the first service of a task
)

func proveReady(_ context.Context, w *world) (report.Figure, error) {
	return report.Figure{Value: w.ready.Seconds(), Unit: "s", Detail: "from the start of serve to /readyz"}, nil
}

func proveRequest(ctx context.Context, w *world) (report.Figure, error) {
	front := w.tasks["frontend"]
	out, err := front.Output(ctx, "curl", "-sSf", "--max-time", "5", "--retry", "20", "--retry-delay", "1", "--retry-all-errors", backendURL)
	if err != nil {
		return report.Figure{}, err
	}
	first := time.Since(w.started)
	egress, err := front.counter(ctx, "cluster.backend.demo.upstream_rq_total")
	if err != nil {
		return report.Figure{}, err
	}
	tls, err := front.counter(ctx, "cluster.backend.demo.ssl.versions.TLSv1.3")
	if err != nil {
		return report.Figure{}, err
	}
	ingress := 0
	for _, name := range []string{"backend-1", "backend-2"} {
		n, err := w.tasks[name].counter(ctx, "http.ingress.downstream_rq_total")
		if err != nil {
			return report.Figure{}, err
		}
		ingress += n
	}
	if egress == 0 || ingress == 0 || tls == 0 {
		return report.Figure{}, fmt.Errorf("the Envoys counted %d requests out, %d in, %d TLS 1.3 connections", egress, ingress, tls)
	}
	return report.Figure{Value: first.Seconds(), Unit: "s", Detail: fmt.Sprintf("curl %s → %s; first answer after the start; Envoys counted %d out, %d in", backendURL, out, egress, ingress)}, nil
}

func proveClientOnly(ctx context.Context, w *world) (report.Figure, error) {
	text, err := w.tasks["frontend"].envoy(ctx, "/config_dump?resource=dynamic_active_secrets")
	if err != nil {
		return report.Figure{}, err
	}
	if err := evidence.NoLeaf(text); err != nil {
		return report.Figure{}, err
	}
	return report.Figure{Detail: "the frontend's Envoy holds trust, and no leaf"}, nil
}

// ingressOf is the address of a task's first service.
func ingressOf(t *task) string { return net.JoinHostPort(t.Addr.String(), strconv.Itoa(ingressPort)) }

// handshake runs openssl s_client from a machine outside of the mesh.
func (w *world) handshake(ctx context.Context, to string, flags ...string) (string, error) {
	args := append([]string{"timeout", "5", "openssl", "s_client", "-connect", to, "-servername", "backend.demo", "-ign_eof", "-brief"}, flags...)
	cmd := w.Hosts["outside"].Command(ctx, args...)
	cmd.Stdin = strings.NewReader("")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func proveTLS13(ctx context.Context, w *world) (report.Figure, error) {
	addr := ingressOf(w.tasks["backend-1"])
	if out, _ := w.handshake(ctx, addr, "-tls1_3"); !strings.Contains(out, "Protocol version: TLSv1.3") {
		return report.Figure{}, fmt.Errorf("openssl with TLS 1.3: %s", out)
	}
	if out, _ := w.handshake(ctx, addr, "-tls1_2"); strings.Contains(out, "CONNECTION ESTABLISHED") {
		return report.Figure{}, fmt.Errorf("TLS 1.2 is accepted: %s", out)
	}
	if out, err := w.Hosts["outside"].Output(ctx, "curl", "-sS", "--max-time", "3", "http://"+addr+"/"); err == nil {
		return report.Figure{}, fmt.Errorf("plain text is answered: %s", out)
	}
	return report.Figure{Detail: "openssl: 1.3 accepted, 1.2 refused; plain text refused"}, nil
}

// leafOf reads the certificate of a task's first port, as text of openssl.
func (w *world) leafOf(ctx context.Context, t *task, fields ...string) (string, error) {
	script := fmt.Sprintf("timeout 5 openssl s_client -connect %s -servername backend.demo </dev/null 2>/dev/null | openssl x509 -noout %s", ingressOf(t), strings.Join(fields, " "))
	return w.Hosts["outside"].Output(ctx, "sh", "-c", script)
}

func proveCertificate(ctx context.Context, w *world) (report.Figure, error) {
	t := w.tasks["backend-1"]
	text, err := w.leafOf(ctx, t, "-subject", "-startdate", "-enddate", "-ext", "subjectAltName")
	if err != nil {
		return report.Figure{}, err
	}
	for _, want := range []string{"DNS:backend.demo", "URI:spiffe://" + trustDomain + "/service/demo/backend"} {
		if !strings.Contains(text, want) {
			return report.Figure{}, fmt.Errorf("the certificate lacks %s:\n%s", want, text)
		}
	}
	out, err := w.handshake(ctx, ingressOf(t), "-CAfile", w.path("ca/root_ca.crt"), "-verify_return_error", "-verify_hostname", "backend.demo")
	if !strings.Contains(out, "Verification: OK") {
		return report.Figure{}, fmt.Errorf("openssl does not verify the chain (%v): %s", err, out)
	}
	life, err := lifetime(text)
	asked := leafLife
	if w.cloud != nil {
		asked = 7*24*time.Hour + time.Hour // Private CA's own, which begins up to an hour before
	}
	if err == nil && life > asked+2*time.Minute {
		err = fmt.Errorf("the leaf lives for %v; asked for %v", life, asked)
	}
	return report.Figure{Value: life.Minutes(), Unit: "min", Detail: "verified by openssl against the CA's root; SAN backend.demo and its SPIFFE ID"}, err
}

// lifetime reads notBefore and notAfter as openssl prints them.
func lifetime(text string) (time.Duration, error) {
	var at [2]time.Time
	for line := range strings.Lines(text) {
		for i, key := range []string{"notBefore=", "notAfter="} {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok {
				t, err := time.Parse("Jan _2 15:04:05 2006 MST", v)
				if err != nil {
					return 0, err
				}
				at[i] = t
			}
		}
	}
	return at[1].Sub(at[0]), nil
}

func proveHTTP2(ctx context.Context, w *world) (report.Figure, error) {
	out, err := w.tasks["frontend"].Output(ctx, "curl", "-sSf", "--max-time", "5", "--http2-prior-knowledge", "-w", " HTTP/%{http_version}", "http://backend-h2.demo:8081/")
	if err == nil && !strings.Contains(out, "HTTP/2") {
		err = fmt.Errorf("the answer is not HTTP/2: %s", out)
	}
	return report.Figure{Detail: "curl --http2-prior-knowledge → " + strings.ReplaceAll(out, "\n", "")}, err
}

func proveGRPC(ctx context.Context, w *world) (report.Figure, error) {
	out, err := w.tasks["frontend"].Output(ctx, w.program("demoapp"), "grpc", "backend-grpc.demo:8082")
	if err == nil && !strings.Contains(out, "SERVING [backend-") {
		err = fmt.Errorf("unexpected answer with its trailer: %s", out)
	}
	return report.Figure{Detail: "grpc.health.v1.Health/Check → " + out}, err
}

func proveTCP(ctx context.Context, w *world) (report.Figure, error) {
	out, err := w.tasks["frontend"].Output(ctx, w.program("demoapp"), "tcp", "backend-tcp.demo:8083")
	if err == nil && !strings.Contains(out, "backend-") {
		err = fmt.Errorf("unexpected greeting: %s", out)
	}
	return report.Figure{Detail: "greeting and echo: " + strings.ReplaceAll(out, "\n", ", ")}, err
}

func proveSamePort(ctx context.Context, w *world) (report.Figure, error) {
	front := w.tasks["frontend"]
	own, err := front.Output(ctx, "curl", "-sSf", "--max-time", "5", "http://127.0.0.1:8080/")
	if err != nil {
		return report.Figure{}, err
	}
	theirs, err := front.Output(ctx, "curl", "-sSf", "--max-time", "5", backendURL)
	if err == nil && (own != "frontend" || !strings.HasPrefix(theirs, "backend-")) {
		err = fmt.Errorf("127.0.0.1:8080 is %q, backend.demo:8080 is %q", own, theirs)
	}
	return report.Figure{Detail: fmt.Sprintf("its own 0.0.0.0:8080 answers %s, the alias %s", own, theirs)}, err
}

func proveOutside(ctx context.Context, w *world) (report.Figure, error) {
	front, outside := w.tasks["frontend"], w.Hosts["outside"]
	before, err := front.envoy(ctx, "/stats?filter=^listener.egress.*downstream_cx_total")
	if err != nil {
		return report.Figure{}, err
	}
	out, err := front.Output(ctx, w.program("demoapp"), "tcp", outside.Addr.String()+":5432")
	if err != nil {
		return report.Figure{}, err
	}
	after, err := front.envoy(ctx, "/stats?filter=^listener.egress.*downstream_cx_total")
	if err == nil && (!strings.Contains(out, "database") || after != before) {
		err = fmt.Errorf("answer %q; Envoy's connections before and after:\n%s%s", out, before, after)
	}
	return report.Figure{Detail: outside.Addr.String() + ":5432 reached without Envoy"}, err
}

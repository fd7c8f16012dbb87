package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"patchbay/cmd/patchbay/cli"
	"patchbay/config"
	"patchbay/controlplane"
	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
)

// adminFiles writes a certificate and its key for a name, and the CA.
func adminFiles(t *testing.T, ca *testca.CA, dir, name string) (cert, key, roots string) {
	t.Helper()
	chain, private := ca.Issue(t, name)
	cert, key, roots = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem"), filepath.Join(dir, name+"-ca.pem")
	for file, text := range map[string][]byte{cert: chain, key: private, roots: ca.RootPEM} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, roots
}

// secured is a control plane whose admin port can be reached from everywhere,
// with TLS and client certificates.
func secured(t *testing.T, servers, operators *testca.CA) (p *plane, dir string) {
	t.Helper()
	dir = t.TempDir()
	cert, key, _ := adminFiles(t, servers, dir, "localhost")
	_, _, clients := adminFiles(t, operators, dir, "operator")
	address := func() string { return "127.0.0.1:" + strconv.Itoa(freePort(t)) }
	cfg := config.Default()
	cfg.Namespaces, cfg.CreateNamespaces, cfg.Data = []string{"demo"}, true, filepath.Join(dir, "data")
	cfg.Registry = &config.Registry{Listen: address()}
	cfg.XDS.Listen, cfg.Agent.Listen, cfg.Admin.Listen = address(), address(), "0.0.0.0:"+strconv.Itoa(freePort(t))
	cfg.Admin.TLS = &config.AdminTLS{CertFile: cert, KeyFile: key, ClientCAFile: clients}
	p = &plane{t: t, cfg: cfg, log: filepath.Join(dir, "log")}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	p.end = running(t, func(ctx context.Context) error { return serve(ctx, cfg, slog.New(slog.NewTextHandler(log, nil))) })
	return p, dir
}

// TestAdminMutualTLS: an admin port that can be reached from elsewhere takes a
// client certificate of the given CA, or the token, and nothing else.
func TestAdminMutualTLS(t *testing.T) {
	servers, operators, strangers := testca.New(t), testca.New(t), testca.New(t)
	p, dir := secured(t, servers, operators)
	base := "https://localhost:" + p.cfg.Admin.Listen[strings.LastIndexByte(p.cfg.Admin.Listen, ':')+1:]
	ask := func(method, path, token string, c *tls.Config) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		c.RootCAs = servers.Pool()
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
		resp, err := client.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Proto + " " + string(body)
	}
	envoytest.Eventually(t, 30*time.Second, func() error {
		if code, text := ask("GET", "/readyz", "", &tls.Config{MinVersion: tls.VersionTLS13}); code != 200 {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
	token, err := controlplane.AdminToken(p.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := []tls.Certificate{operators.Certificate(t, "me")}, []tls.Certificate{strangers.Certificate(t, "me")}
	for _, c := range []struct {
		name, method, path, token string
		certificates              []tls.Certificate
		most                      uint16
		want                      int
		text                      string
	}{
		{"reads with a certificate", "GET", "/api/v1/status", "", ours, 0, 200, `HTTP/2.0`},
		{"acts with a certificate", "POST", "/api/v1/rotate", "", ours, 0, 400, "is not in the mesh"},
		{"reads with the token", "GET", "/metrics", token, nil, 0, 200, "patchbay_ready"},
		{"shows nothing, from loopback", "GET", "/api/v1/status", "", nil, 0, 401, "show a client certificate"},
		{"a wrong token", "GET", "/api/v1/status", "no", nil, 0, 401, "send the admin token"},
		{"a certificate of another CA", "GET", "/readyz", token, theirs, 0, 0, ""},
		{"TLS 1.2", "GET", "/readyz", "", nil, tls.VersionTLS12, 0, "protocol version"},
		{"alive, to everybody", "GET", "/healthz", "", nil, 0, 200, `"ok": true`},
	} {
		code, text := ask(c.method, c.path, c.token, &tls.Config{Certificates: c.certificates, MinVersion: tls.VersionTLS12, MaxVersion: c.most})
		if code != c.want || !strings.Contains(text, c.text) {
			t.Errorf("%s: %d, want %d and %q:\n%.300s", c.name, code, c.want, c.text, text)
		}
	}
	p.adminCommands(t, operators, base, dir)

	// A renewed certificate is served without a restart; half a renewal is not.
	cert, key, _ := adminFiles(t, servers, dir, "renewed")
	serial := func() string {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(base, "https://"), &tls.Config{RootCAs: servers.Pool(), MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}) //nolint:gosec // the name is another
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	move(t, cert, p.cfg.Admin.TLS.CertFile)
	if serial() != before {
		t.Error("a certificate is served without its key")
	}
	move(t, key, p.cfg.Admin.TLS.KeyFile)
	if serial() == before {
		t.Error("the old certificate is still served")
	}
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// execute runs a command, and returns what it prints and its exit code.
func execute(t *testing.T, args ...string) (out string, exit int) {
	t.Helper()
	root, b := newRoot(), &bytes.Buffer{}
	root.SetOut(b)
	root.SetErr(b)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	if err != nil {
		fmt.Fprintln(b, err)
	}
	return b.String(), cli.Code(err)
}

// adminCommands are the same, as commands.
func (p *plane) adminCommands(t *testing.T, operators *testca.CA, base, dir string) {
	cert, key, _ := adminFiles(t, operators, dir, "me")
	ca := filepath.Join(dir, "localhost-ca.pem")
	for _, c := range []struct {
		args []string
		want int
		text string
	}{
		{[]string{"--tls-ca", ca, "--tls-cert", cert, "--tls-key", key}, 0, "control plane"},
		{[]string{"--tls-ca", ca}, exitFailed, "or a client certificate with --tls-cert"},
		{nil, exitFailed, "name the CA of its certificate (admin.tls.certFile) with --tls-ca"},
		{[]string{"--tls-ca", ca, "--tls-cert", cert}, exitUsage, "go together; allowed: both or none"},
		{[]string{"--tls-ca", key}, exitUsage, "holds no certificate"},
	} {
		out, exit := execute(t, append([]string{"status", "--admin", base}, c.args...)...)
		if exit != c.want || !strings.Contains(out, c.text) {
			t.Errorf("%v: exit code %d, want %d and %q:\n%s", c.args, exit, c.want, c.text, out)
		}
	}
	for name, value := range map[string]string{"": base, "_TLS_CA": ca, "_TLS_CERT": cert, "_TLS_KEY": key} {
		t.Setenv("PATCHBAY_ADMIN"+name, value)
	}
	if out, exit := execute(t, "status"); exit != 0 {
		t.Errorf("by the environment: %d\n%s", exit, out)
	}
	if out, exit := execute(t, "serve", "health", "--admin", "unix:"+controlplane.AdminSocket(p.cfg.Data)); exit != 0 || out != "ready\n" {
		t.Errorf("serve health: %d %s", exit, out)
	}
}

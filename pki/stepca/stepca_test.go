package stepca_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"patchbay/internal/devca"
	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/stepca"
)

var backend = mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}

// authority is a real one, on loopback.
type authority struct {
	t    *testing.T
	o    devca.Options
	stop func()
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, o: devca.Options{Dir: filepath.Join(t.TempDir(), "ca"), Names: []string{"127.0.0.1", "localhost"}, Listen: freeAddr(t)}}
	return a
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs it and waits until it is healthy.
func (a *authority) start() {
	a.t.Helper()
	ctx, cancel := context.WithCancel(a.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- devca.Run(ctx, a.o, slog.New(slog.DiscardHandler)) }()
	a.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			a.t.Errorf("authority: %v", err)
		}
	})
	a.t.Cleanup(a.stop)
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := devca.LoadClient(a.o.Dir)
		if err == nil {
			err = c.Health(a.t.Context())
		}
		if err == nil {
			return
		}
		select {
		case err := <-ended:
			a.t.Fatalf("authority ended: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("authority is not healthy: %v", err)
		}
	}
}

func (a *authority) client(change func(*stepca.Options)) *stepca.CA {
	a.t.Helper()
	o := stepca.Options{
		URL:             "https://" + a.o.Listen,
		FingerprintFile: filepath.Join(a.o.Dir, "fingerprint"),
		Provisioner:     devca.Provisioner,
		PasswordFile:    filepath.Join(a.o.Dir, "provisioner-password"),
	}
	if change != nil {
		change(&o)
	}
	ca, err := stepca.New(o)
	if err != nil {
		a.t.Fatal(err)
	}
	return ca
}

func request() issue.Request {
	return issue.NewRequest("mesh.test", &mesh.Service{Name: backend, Aliases: []mesh.Alias{
		{DNSName: "backend", Port: 80}, {DNSName: "backend", Port: 8080}, {DNSName: "_old-name", Port: 80}, {DNSName: "backend.prod", Port: 80},
	}})
}

func parse(t *testing.T, text []byte) []*x509.Certificate {
	t.Helper()
	certs, err := issue.ParseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

func TestIssue(t *testing.T) {
	a := newAuthority(t)
	a.start()
	ca := a.client(func(o *stepca.Options) { o.Lifetime = time.Hour })
	for _, life := range []time.Duration{0, time.Minute, 24 * time.Hour, 168 * time.Hour} {
		before := time.Now()
		r := request()
		r.Lifetime = life
		leaf, err := ca.Issue(t.Context(), r)
		if err != nil {
			t.Fatalf("%s: %v", life, err)
		}
		roots, err := ca.Roots(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		checkLeaf(t, leaf, roots, cmp.Or(life, time.Hour), before)
		checkOpenSSL(t, leaf, roots)
	}
}

func checkLeaf(t *testing.T, leaf *mesh.Leaf, roots []byte, life time.Duration, before time.Time) {
	t.Helper()
	chain := parse(t, leaf.ChainPEM)
	c := chain[0]
	const backdate = 5 * time.Minute // of the life that is asked for, where that is an hour at least
	if begin := before.Add(-backdate); c.NotBefore.After(begin.Add(10*time.Second)) || c.NotBefore.Before(begin.Add(-time.Minute)) {
		t.Errorf("it begins at %s, issued at %s", c.NotBefore, before)
	}
	if life >= time.Hour {
		life -= backdate
	}
	if got := c.NotAfter.Sub(before); got < life-2*time.Second || got > life+10*time.Second {
		t.Errorf("life %s, asked for %s", got, life)
	}
	if diff := gocmp.Diff([]string{"_old-name", "backend", "backend.prod"}, c.DNSNames); diff != "" {
		t.Errorf("names: %s", diff)
	}
	if len(c.URIs) != 1 || c.URIs[0].String() != "spiffe://mesh.test/service/prod/backend" {
		t.Errorf("URIs %v", c.URIs)
	}
	if c.Subject.String() != "" || c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("subject %q, CA %v, key usage %b", c.Subject, c.IsCA, c.KeyUsage)
	}
	if len(chain) != 2 {
		t.Errorf("%d certificates in the chain; want leaf and intermediate", len(chain))
	}
	if leaf.Serial != c.SerialNumber.Text(16) || leaf.Service != backend || !leaf.NotAfter.Equal(c.NotAfter) || leaf.IssuedAt.Before(before) {
		t.Errorf("leaf %v does not describe its certificate", leaf)
	}
	if _, err := tls.X509KeyPair(leaf.ChainPEM, leaf.KeyPEM); err != nil {
		t.Errorf("key pair: %v", err)
	}
	pool, inter := x509.NewCertPool(), x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	inter.AddCert(chain[1])
	if _, err := c.Verify(x509.VerifyOptions{Roots: pool, Intermediates: inter, DNSName: "backend.prod"}); err != nil {
		t.Errorf("verify: %v", err)
	}
}

func checkOpenSSL(t *testing.T, leaf *mesh.Leaf, roots []byte) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string][]byte{"root.pem": roots, "chain.pem": leaf.ChainPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("openssl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "root.pem", "-untrusted", "chain.pem", "chain.pem")
	if serial := run("x509", "-in", "chain.pem", "-noout", "-serial"); !strings.HasSuffix(strings.ToLower(strings.TrimSpace(serial)), leaf.Serial) {
		t.Errorf("openssl says %s, the leaf says %s", serial, leaf.Serial)
	}
}

func TestAwayAndBack(t *testing.T) {
	a := newAuthority(t)
	ca := a.client(nil) // neither it nor its files are there yet
	if _, err := ca.Issue(t.Context(), request()); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("without an authority: %v", err)
	}
	a.start()
	if _, err := ca.Issue(t.Context(), request()); err != nil {
		t.Fatalf("once it is there: %v", err)
	}
	a.stop()
	if _, err := ca.Issue(t.Context(), request()); err == nil {
		t.Fatal("issued while the authority was away")
	}
	a.start()
	if _, err := ca.Issue(t.Context(), request()); err != nil {
		t.Fatalf("once it is back: %v", err)
	}
	a.stop()
	if err := os.RemoveAll(a.o.Dir); err != nil {
		t.Fatal(err)
	}
	a.start() // another root, another provisioner, same address
	if _, err := ca.Issue(t.Context(), request()); err == nil {
		t.Fatal("issued by an authority that is not the pinned one")
	}
	leaf, err := ca.Issue(t.Context(), request()) // it has read the fingerprint file again
	if err != nil {
		t.Fatalf("after the authority was made anew: %v", err)
	}
	if len(leaf.KeyPEM) == 0 {
		t.Error("no key")
	}
}

func TestRefused(t *testing.T) {
	a := newAuthority(t)
	a.start()
	r := request()
	for _, c := range []struct {
		name, want string
		change     func(*stepca.Options)
	}{
		{"life beyond the authority's claims", "more than the authorized maximum", func(o *stepca.Options) { o.Lifetime = 200 * time.Hour }},
		{"wrong password", "password is wrong", func(o *stepca.Options) { o.PasswordFile, o.Password = "", []byte("guess") }},
		{"unknown provisioner", `provisioner "nobody"`, func(o *stepca.Options) { o.Provisioner = "nobody" }},
		{"another fingerprint", "root with fingerprint", func(o *stepca.Options) {
			o.FingerprintFile, o.Fingerprint = "", strings.Repeat("ab", 32)
		}},
		{"nobody there", "connection refused", func(o *stepca.Options) { o.URL = "https://" + freeAddr(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := a.client(c.change).Issue(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want %q", err, c.want)
			}
		})
	}
}

func TestHostMustBeANameOfTheAuthority(t *testing.T) {
	a := newAuthority(t)
	a.o.Names = []string{"localhost"}
	a.start()
	_, err := a.client(nil).Issue(t.Context(), request()) // by 127.0.0.1
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("got %v", err)
	}
	_, port, _ := net.SplitHostPort(a.o.Listen)
	if _, err := a.client(func(o *stepca.Options) { o.URL = "https://localhost:" + port }).Issue(t.Context(), request()); err != nil {
		t.Error(err)
	}
}

func TestStuckAuthorityDoesNotHoldTheCaller(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ca, err := stepca.New(stepca.Options{
		URL: "https://" + l.Addr().String(), Fingerprint: strings.Repeat("ab", 32), Provisioner: "p", Password: []byte("x"), Timeout: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Roots(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestOptionsAllProblemsAtOnce(t *testing.T) {
	_, err := stepca.New(stepca.Options{URL: "http://ca", Fingerprint: "abc", Lifetime: time.Second})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"url:", "fingerprint:", "provisioner:", "passwordFile:", "lifetime:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestACertificateToCallWith(t *testing.T) {
	a := newAuthority(t)
	a.start()
	w := mesh.Workload{Namespace: "prod", Name: "frontend"}
	leaf, err := a.client(nil).Issue(t.Context(), issue.ForWorkload("mesh.test", w))
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, leaf.ChainPEM)[0]
	if len(c.DNSNames) > 0 || len(c.URIs) != 1 || c.URIs[0].String() != w.SPIFFEID("mesh.test") || leaf.Service != w.CertificateName() {
		t.Errorf("%v names %v %v", leaf.Service, c.DNSNames, c.URIs)
	}
	if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		t.Errorf("extended key usage: %v", c.ExtKeyUsage)
	}
}

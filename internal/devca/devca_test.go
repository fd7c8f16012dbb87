package devca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/smallstep/certificates/ca"
)

// start runs an authority on any free port until the test ends.
func start(t *testing.T, o Options) Client {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "ca")
	}
	o.Listen = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("authority: %v", err)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := LoadClient(o.Dir)
		if err == nil {
			err = c.Health(t.Context())
		}
		if err == nil {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestInitTwiceIsTheSameAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	one, err := Init(t.Context(), Options{Dir: dir, Names: []string{"ca.test", "127.0.0.1"}, Listen: ":9443"})
	if err != nil {
		t.Fatal(err)
	}
	two, err := Init(t.Context(), Options{Dir: dir})
	if diff := cmp.Diff(one, two); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if one.URL != "https://ca.test:9443" {
		t.Errorf("URL %s", one.URL)
	}
	three, err := Init(t.Context(), Options{Dir: dir, Names: []string{"other.test"}, Share: filepath.Join(dir, "share")})
	if err != nil || three.Fingerprint != one.Fingerprint || three.URL != "https://other.test:9443" {
		t.Errorf("%+v, %v", three, err)
	}
	for path, mode := range map[string]os.FileMode{
		".": 0o700, "authority": 0o700, "authority/secrets": 0o700, "authority/secrets/root_ca_key": 0o600,
		"authority/secrets/intermediate_ca_key": 0o600, "authority/ca.json": 0o600,
		"provisioner-password": 0o600, "share/provisioner-password": 0o600, "share/fingerprint": 0o644,
	} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want %04o", path, info, err, mode)
		}
	}
}

func TestInitAtOnceMakesOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	got := make(chan string, 2)
	var all sync.WaitGroup
	for range cap(got) {
		all.Go(func() {
			c, err := Init(t.Context(), Options{Dir: dir})
			if err != nil {
				t.Error(err)
			}
			got <- c.Fingerprint
		})
	}
	all.Wait()
	close(got)
	first := <-got
	for f := range got {
		if f != first {
			t.Errorf("two authorities: %s, %s", first, f)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOptionsAllProblemsAtOnce(t *testing.T) {
	_, err := Init(t.Context(), Options{Names: []string{"ca:9000"}, Listen: "9000", MinLifetime: time.Hour, MaxLifetime: time.Minute})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"dir:", "dns:", "listen:", "lifetimes:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestOnlyTLS13AndP256(t *testing.T) {
	c := start(t, Options{})
	addr := strings.TrimPrefix(c.URL, "https://localhost")
	pool := x509.NewCertPool()
	root, err := os.ReadFile(c.RootFile)
	if err != nil || !pool.AppendCertsFromPEM(root) {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", "127.0.0.1"+addr, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	st := conn.ConnectionState()
	if st.Version != tls.VersionTLS13 {
		t.Errorf("TLS %x", st.Version)
	}
	for _, cert := range st.VerifiedChains[0] {
		if k, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
			t.Errorf("%s has a key %T", cert.Subject, cert.PublicKey)
		}
	}
	if conn, err := tls.Dial("tcp", "127.0.0.1"+addr, &tls.Config{RootCAs: pool, ServerName: "localhost", MaxVersion: tls.VersionTLS12}); err == nil {
		conn.Close()
		t.Error("TLS 1.2 is accepted")
	}
}

func TestOneJWKProvisionerAndNoOtherDoor(t *testing.T) {
	c := start(t, Options{})
	client, err := ca.NewClient(c.URL, ca.WithRootSHA256(c.Fingerprint))
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	p, err := client.ProvisionersWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Provisioners) != 1 || p.Provisioners[0].GetType().String() != "JWK" || p.Provisioners[0].GetName() != Provisioner {
		t.Errorf("provisioners %v", p.Provisioners)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Run(t.Context(), Options{Dir: filepath.Join(t.TempDir(), "ca"), Listen: l.Addr().String()}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestRestartKeepsTheDatabase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	t.Run("first", func(t *testing.T) { start(t, Options{Dir: dir, Database: true}) })
	moved := dir + "-moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	t.Run("moved", func(t *testing.T) { start(t, Options{Dir: moved}) })
	if info, err := os.Stat(filepath.Join(moved, authorityDir, databaseFile)); err != nil || info.Size() == 0 {
		t.Errorf("database: %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it came back to its old place: %v", err)
	}
}

package devca

import (
	"crypto/ecdsa"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/smallstep/certificates/api"
)

// TestRecovery is docs/guides/ca-recovery.md, step by step: an authority is
// stopped and copied, its machine is lost, and what was restored elsewhere goes
// on for clients that know only the old root.
func TestRecovery(t *testing.T) {
	home := t.TempDir()
	dir, copied, restored := filepath.Join(home, "ca"), filepath.Join(home, "backup.tar"), filepath.Join(home, "elsewhere", "ca")
	var before Client
	var old *x509.Certificate
	var bundle []byte
	t.Run("before", func(t *testing.T) {
		before = start(t, Options{Dir: dir, Database: true})
		old = issued(t, before)[0]
		var err error
		if bundle, err = os.ReadFile(before.RootFile); err != nil { // what callers trust, and keep
			t.Fatal(err)
		}
	}) // stopped: a live database must not be copied
	run(t, "tar", "-C", dir, "-cf", copied, ".")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(restored, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "tar", "-C", restored, "-xpf", copied)
	if info, err := os.Stat(filepath.Join(restored, filepath.Base(before.PasswordFile))); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a secret came back as %v, %v", info, err)
	}
	after := start(t, Options{Dir: restored})
	if after.Fingerprint != before.Fingerprint {
		t.Fatalf("the root is another: %s, was %s", after.Fingerprint, before.Fingerprint)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		t.Fatal("no root in the bundle")
	}
	chain := issued(t, after)
	for what, c := range map[string][]*x509.Certificate{"issued before": {old, chain[1]}, "issued after": chain} {
		between := x509.NewCertPool()
		between.AddCert(c[1])
		if _, err := c[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, DNSName: asked[0]}); err != nil {
			t.Errorf("%s, by the old bundle: %v", what, err)
		}
	}
	if chain[0].SerialNumber.Cmp(old.SerialNumber) == 0 || chain[0].PublicKey.(*ecdsa.PublicKey).Equal(old.PublicKey) {
		t.Error("nothing new was issued")
	}
}

// issued is a new chain of the authority: leaf, intermediate.
func issued(t *testing.T, c Client) (chain []*x509.Certificate) {
	t.Helper()
	p := connect(t, c)
	out, err := p.SignWithContext(t.Context(), &api.SignRequest{CsrPEM: csr(t, p256(t), nil), OTT: token(t, p)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range out.CertChainPEM {
		chain = append(chain, c.Certificate)
	}
	return slices.Clip(chain)
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

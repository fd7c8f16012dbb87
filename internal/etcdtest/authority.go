package etcdtest

import (
	"os"
	"path/filepath"
	"testing"

	"patchbay/internal/testca"
)

// Authority is a CA whose files end with the test.
type Authority struct {
	CAFile string

	t   testing.TB
	dir string
	ca  *testca.CA
}

// NewAuthority makes one.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: t.TempDir(), ca: testca.New(t)}
	a.CAFile = a.write("ca.pem", a.ca.RootPEM)
	return a
}

// Certificate makes one of this CA, for 127.0.0.1, and returns its files; of one
// name there is one.
func (a *Authority) Certificate(name string) (cert, key string) {
	a.t.Helper()
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	if _, err := os.Stat(cert); err == nil {
		return cert, key
	}
	chain, secret := a.ca.IssueTo(a.t, name, "127.0.0.1")
	return a.write(name+".pem", chain), a.write(name+".key", secret)
}

func (a *Authority) write(file string, b []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, file)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

package admin

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patchbay/internal/testca"
)

// TestTLSFiles: what is wrong with the files is said at the start, by its key in
// the configuration.
func TestTLSFiles(t *testing.T) {
	dir, ca := t.TempDir(), testca.New(t)
	chain, key := ca.Issue(t, "admin")
	for name, text := range map[string][]byte{"cert": chain, "key": key, "ca": ca.RootPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := func(cert, key, ca string) Files {
		return Files{filepath.Join(dir, cert), filepath.Join(dir, key), filepath.Join(dir, ca)}
	}
	for _, c := range []struct {
		files Files
		want  string
	}{
		{files("cert", "key", "ca"), "<nil>"},
		{files("none", "key", "ca"), "admin.tls: open "},
		{files("cert", "cert", "ca"), "admin.tls: tls: "},
		{files("cert", "key", "none"), "admin.tls.clientCAFile: open "},
		{files("cert", "key", "key"), "holds no certificate; allowed: certificates of CAs, in PEM"},
	} {
		if _, err := TLS(c.files); !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%v: %v, want %s", c.files, err, c.want)
		}
	}
}

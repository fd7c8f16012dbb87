package join

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Names below the state directory. Envoy reads the three files through the
// symlink, and reads all of them again when the symlink is replaced.
const (
	current  = "current"
	certFile = "cert.pem"
	keyFile  = "key.pem"
	caFile   = "ca.pem"
	version  = "v-" // prefix of the directories that current points to
	fresh    = ".next"
)

// certificate is a node certificate with its key and what it may trust.
type certificate struct {
	tls tls.Certificate // Leaf is set
	ca  []byte          // PEM
}

// usable says what is wrong with the certificate as that of a node, now.
func (c *certificate) usable(spiffeID string, ca []byte, now time.Time) error {
	leaf := c.tls.Leaf
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != spiffeID {
		return fmt.Errorf("the certificate is that of %v, not of %s", leaf.URIs, spiffeID)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return fmt.Errorf("the certificate: %w", err)
	}
	return nil
}

// by reports whether the node came with the key that the join directory has
// now.
func (c *certificate) by(d *Dir) bool { return KeyOf(c.tls.Leaf) == d.KeyID }

// read returns what stands in the state directory.
func read(state string) (*certificate, error) {
	dir := filepath.Join(state, current)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, certFile), filepath.Join(dir, keyFile))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Join(dir, caFile))
	return &certificate{pair, ca}, err
}

// write puts a certificate into the state directory: all three files or none,
// in one step. uid above 0 owns the files, if this process may give them away.
func (c *certificate) write(state string, uid int) error {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(state, version)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			os.RemoveAll(dir)
		}
	}()
	key, err := x509.MarshalPKCS8PrivateKey(c.tls.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		return errors.New("encode the node key")
	}
	var chain []byte
	for _, der := range c.tls.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	owned := []string{state, dir}
	for name, content := range map[string][]byte{certFile: chain, caFile: c.ca, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
		owned = append(owned, path)
	}
	if uid > 0 && os.Geteuid() == 0 {
		for _, path := range owned {
			if err := os.Chown(path, uid, uid); err != nil {
				return err
			}
		}
	}
	if err := swap(state, filepath.Base(dir)); err != nil {
		return err
	}
	done = true
	return nil
}

// swap points current at dir. The rename is what Envoy's watch sees.
func swap(state, dir string) error {
	next := filepath.Join(state, fresh)
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(dir, next); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(state, current))
}

// prune removes what current does not point to any more, but for keep: Envoy
// may be reading the certificate before this one.
func prune(state, keep string) error {
	now := target(state)
	entries, err := os.ReadDir(state)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), version) && e.Name() != now && e.Name() != keep {
			errs = append(errs, os.RemoveAll(filepath.Join(state, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// target is what current points to; empty if there is none.
func target(state string) string {
	dir, err := os.Readlink(filepath.Join(state, current))
	if err != nil {
		return ""
	}
	return dir
}

package join

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots(ca), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return fmt.Errorf("the certificate: %w", err)
	}
	return nil
}

// by reports whether the node came with the key that the join directory has
// now.
func (c *certificate) by(d *Dir) bool { return KeyOf(c.tls.Leaf) == d.KeyID }

// read returns what stands in the state directory.
func read(state string) (*certificate, error) {
	root, err := os.OpenRoot(state)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var text [3][]byte
	for i, name := range []string{certFile, keyFile, caFile} {
		if text[i], err = root.ReadFile(filepath.Join(current, name)); err != nil {
			return nil, err
		}
	}
	pair, err := tls.X509KeyPair(text[0], text[1])
	return &certificate{pair, text[2]}, err
}

// write puts a certificate into the state directory: all three files or none,
// in one step. uid above 0 owns the directory and the files, if this process
// may give them away. As that user may be Envoy, whom this process does not
// trust, nothing is followed that leads out of the directory.
func (c *certificate) write(state string, uid int) error {
	content, err := c.encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(state)
	if err != nil {
		return err
	}
	defer root.Close()
	dir := version + rand.Text()
	if err := root.Mkdir(dir, 0o700); err != nil {
		return err
	}
	owned := []string{".", dir}
	for name, text := range content {
		path := filepath.Join(dir, name)
		if err := root.WriteFile(path, text, 0o600); err != nil {
			return errors.Join(err, root.RemoveAll(dir))
		}
		owned = append(owned, path)
	}
	if uid > 0 && uid != os.Geteuid() {
		for _, path := range owned {
			if err := root.Lchown(path, uid, uid); err != nil {
				return errors.Join(err, root.RemoveAll(dir))
			}
		}
	}
	if err := swap(root, dir); err != nil {
		return errors.Join(err, root.RemoveAll(dir))
	}
	return nil
}

// giveTo makes sure that uid, if it is above 0 and another's, can read what
// stands in the state directory. It can't where Envoy had another user in an
// earlier run, or the directory is a copy.
func (c *certificate) giveTo(state string, uid int) error {
	if uid <= 0 || uid == os.Geteuid() {
		return nil
	}
	for _, path := range []string{".", current, filepath.Join(current, certFile), filepath.Join(current, keyFile), filepath.Join(current, caFile)} {
		info, err := os.Stat(filepath.Join(state, path))
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != uid {
			return c.write(state, uid)
		}
	}
	return nil
}

func (c *certificate) encode() (map[string][]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(c.tls.PrivateKey)
	if err != nil {
		return nil, errors.New("encode the node key")
	}
	var chain []byte
	for _, der := range c.tls.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return map[string][]byte{certFile: chain, caFile: c.ca, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})}, nil
}

// swap points current at dir. The rename is what Envoy's watch sees.
func swap(root *os.Root, dir string) error {
	if err := root.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := root.Symlink(dir, fresh); err != nil {
		return err
	}
	return root.Rename(fresh, current)
}

// prune removes what current does not point to any more, but for keep: Envoy
// may be reading the certificate before this one.
func prune(state, keep string) error {
	root, err := os.OpenRoot(state)
	if err != nil {
		return err
	}
	defer root.Close()
	now := target(state)
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), version) && e.Name() != now && e.Name() != keep {
			errs = append(errs, root.RemoveAll(e.Name()))
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

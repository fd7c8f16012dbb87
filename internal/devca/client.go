package devca

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/ca"
)

// Client is what a client of the authority needs to know. The files have the
// same names in every share directory: url, fingerprint, provisioner,
// provisioner-password (0600), root_ca.crt.
type Client struct {
	URL          string `json:"url"`
	Fingerprint  string `json:"fingerprint"` // SHA-256 of the root, hex: what a client pins
	Provisioner  string `json:"provisioner"`
	PasswordFile string `json:"passwordFile"`
	RootFile     string `json:"rootFile"`
}

// share writes the files for clients; the fingerprint last, so that whoever
// sees it may read the others.
func share(o Options, cfg *config.Config) (Client, error) {
	dir := cmp.Or(o.Share, o.Dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Client{}, fmt.Errorf("directory for clients: %w", err)
	}
	root, err := os.ReadFile(o.file(rootFile))
	if err != nil {
		return Client{}, fmt.Errorf("root of the authority: %w", err)
	}
	block, _ := pem.Decode(root)
	if block == nil {
		return Client{}, fmt.Errorf("root of the authority: %s holds no PEM", o.file(rootFile))
	}
	password, err := os.ReadFile(o.file(passwordFile))
	if err != nil {
		return Client{}, fmt.Errorf("password of the provisioner: %w", err)
	}
	_, port, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return Client{}, fmt.Errorf("address %q of the authority: %w", cfg.Address, err)
	}
	sum := sha256.Sum256(block.Bytes)
	c := clientOf(dir)
	c.URL = "https://" + net.JoinHostPort(cfg.DNSNames[0], port)
	c.Fingerprint = hex.EncodeToString(sum[:])
	for _, f := range []struct {
		path, text string
		mode       os.FileMode
	}{
		{c.RootFile, string(root), 0o644},
		{c.PasswordFile, string(password), 0o600},
		{filepath.Join(dir, "provisioner"), c.Provisioner + "\n", 0o644},
		{filepath.Join(dir, "url"), c.URL + "\n", 0o644},
		{filepath.Join(dir, "fingerprint"), c.Fingerprint + "\n", 0o644},
	} {
		if err := writeFile(f.path, f.text, f.mode); err != nil {
			return Client{}, fmt.Errorf("file for clients: %w", err)
		}
	}
	return c, nil
}

func clientOf(dir string) Client {
	return Client{
		Provisioner:  Provisioner,
		PasswordFile: filepath.Join(dir, "provisioner-password"),
		RootFile:     filepath.Join(dir, rootFile),
	}
}

// LoadClient reads what an authority wrote into its share directory.
func LoadClient(dir string) (Client, error) {
	c := clientOf(dir)
	url, err1 := os.ReadFile(filepath.Join(dir, "url"))
	fp, err2 := os.ReadFile(filepath.Join(dir, "fingerprint"))
	if err := errors.Join(err1, err2); err != nil {
		return Client{}, fmt.Errorf("files of the authority for clients (made by 'devca init'): %w", err)
	}
	c.URL, c.Fingerprint = strings.TrimSpace(string(url)), strings.TrimSpace(string(fp))
	return c, nil
}

// Health asks the authority over TLS, checked against its root, whether it is
// healthy. It gives up after 5 s.
func (c Client) Health(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	client, err := ca.NewClient(c.URL, ca.WithRootFile(c.RootFile))
	if err != nil {
		return fmt.Errorf("health of %s: %w", c.URL, err)
	}
	defer client.CloseIdleConnections()
	h, err := client.HealthWithContext(ctx)
	if err != nil {
		return fmt.Errorf("health of %s: %w\nstart it with `devca run`; its log says more", c.URL, err)
	}
	if h.Status != "ok" {
		return fmt.Errorf("health of %s: it says %q; allowed: ok", c.URL, h.Status)
	}
	return nil
}

// writeFile replaces path as a whole. A file that says the same is left alone.
func writeFile(path, text string, mode os.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return os.Chmod(path, mode)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err1 := f.WriteString(text)
	if err := errors.Join(err1, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Package bundle is the archive of a diagnosis: what was seen, for a report to
// others, or to be judged again elsewhere.
//
// It owns the form of the archive, and that no key leaves with it. It must not
// judge. Start reading at [Write].
package bundle

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"patchbay/diagnose"
)

// factsFile is the part of a bundle that a diagnosis is made from.
const factsFile = "facts.json"

// factsMost bounds it.
const factsMost = 256 << 20

// File is one part of a bundle besides the facts.
type File struct {
	Name string
	Text []byte
}

// Write makes a .tar.gz of the facts and more, for its owner alone. It refuses
// what holds a private key.
func Write(path string, facts *diagnose.Facts, more ...File) (err error) {
	text, err := json.MarshalIndent(facts, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z := gzip.NewWriter(f)
	t := tar.NewWriter(z)
	for _, x := range append([]File{{factsFile, text}}, more...) {
		if strings.Contains(string(x.Text), "PRIVATE KEY") {
			return fmt.Errorf("%s would hold a private key: report this", x.Name)
		}
		if err := t.WriteHeader(&tar.Header{Name: "patchbay-report/" + x.Name, Mode: 0o600, Size: int64(len(x.Text)), ModTime: facts.Now}); err != nil {
			return err
		}
		if _, err := t.Write(x.Text); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

// Read gives the facts of a bundle.
func Read(path string) (*diagnose.Facts, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("bundle: %s is no .tar.gz of `patchbay doctor --bundle`: %w", path, err)
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err != nil {
			return nil, fmt.Errorf("bundle: %s has no %s: %w", path, factsFile, err)
		}
		if !strings.HasSuffix(h.Name, "/"+factsFile) {
			continue
		}
		facts := &diagnose.Facts{}
		if err := json.NewDecoder(io.LimitReader(t, factsMost)).Decode(facts); err != nil {
			return nil, fmt.Errorf("bundle: %s: %w", h.Name, err)
		}
		return facts, nil
	}
}

package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keySize is that of AES-256.
const keySize = 32

// ParseKey reads a key as a key file, or an environment variable, holds it:
// 32 bytes in standard base64.
func ParseKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != keySize {
		return nil, errors.New("key of the secret store: not 32 bytes in base64; make one with: openssl rand -base64 32")
	}
	return key, nil
}

// sealer encrypts values and binds them to their name and generation.
type sealer struct {
	aead cipher.AEAD
	id   string // tells keys apart without telling them
}

func newSealer(key []byte) (*sealer, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("key of the secret store: %d bytes; allowed: %d", len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key of the secret store: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("key of the secret store: %w", err)
	}
	sum := sha256.Sum256(append([]byte("patchbay secret store key id\n"), key...))
	return &sealer{aead, hex.EncodeToString(sum[:4])}, nil
}

func (s *sealer) close(v Entry, prepared bool) envelope {
	e := envelope{Version: envelopeVersion, Name: v.Name, Generation: v.Generation, KeyID: s.id, Prepared: prepared, For: v.For}
	e.Sealed = s.aead.Seal(nil, nil, v.Value, e.bound()) //nolint:gosec // this AEAD makes its nonces itself
	return e
}

func (s *sealer) open(e envelope) ([]byte, error) {
	value, err := s.aead.Open(nil, nil, e.Sealed, e.bound())
	if err != nil {
		return nil, errors.New("its seal does not fit its content, name and generation")
	}
	return value, nil
}

// bound is what the seal also proves.
func (e envelope) bound() []byte {
	if e.Prepared {
		return fmt.Appendf(nil, "patchbay prepared v%d\n%d\n%q\n%s", e.Version, e.Generation, e.For, e.Name)
	}
	return fmt.Appendf(nil, "patchbay secret v%d\n%d\n%s", e.Version, e.Generation, e.Name)
}

// readKey reads the key of a file, which it makes if there is none. Of
// several that make it at once, one wins and all use that.
func readKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(path); err != nil {
			return nil, fmt.Errorf("make the key of the secret store: %w", err)
		}
		info, err = os.Stat(path)
	}
	if err != nil {
		return nil, fmt.Errorf("key of the secret store: %w", err)
	}
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return nil, fmt.Errorf("key of the secret store: %s has mode %04o; allowed: 0600 or stricter", path, m)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key of the secret store: %w", err)
	}
	key, err := ParseKey(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func makeKey(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	key := make([]byte, keySize)
	rand.Read(key)
	t, err := os.CreateTemp(dir, ".new-key-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	_, err1 := t.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	if err := errors.Join(err1, t.Sync(), t.Close()); err != nil {
		return err
	}
	// Link, unlike rename, does not replace the key of somebody faster.
	if err := os.Link(t.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

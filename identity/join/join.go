// Package join is the task's half of identity: the join directory that an
// operator gives to a workload, and the one-time proof that its agent makes
// of it at each start.
//
// It owns the form of both. It must not know the control plane's half, which
// reads the same forms in package identity. Start reading at [Load].
package join

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// ProofLife is how long a proof may be used; the control plane accepts none
// that asks for more than [MaxProofLife].
const (
	ProofLife    = 5 * time.Minute
	MaxProofLife = 10 * time.Minute
)

// File names of a join directory.
const (
	InfoFile = "join.json"
	KeyFile  = "join.key" // 0600, PKCS #8
	CAFile   = "ca.pem"
)

// Info is join.json.
type Info struct {
	Version        int      `json:"version"` // 1
	Namespace      string   `json:"namespace"`
	Workload       string   `json:"workload"`
	DiscoveryNames []string `json:"discoveryNames"`
	KeyID          string   `json:"keyId"`
	TrustDomain    string   `json:"trustDomain"`
}

// Claims are what a proof says. CSR is the base64url SHA-256 of the request
// that the proof goes with: it is of no use with another key.
type Claims struct {
	jwt.Claims
	CSR string `json:"csr"`
}

// Audience of proofs for a trust domain.
func Audience(trustDomain string) string { return "patchbay:" + trustDomain + ":enrol" }

// Digest is the csr claim of a request.
func Digest(csrDER []byte) string {
	sum := sha256.Sum256(csrDER)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Dir is a join directory that holds.
type Dir struct {
	Info
	CA  []byte // PEM: what to trust on the control channel
	key *ecdsa.PrivateKey
}

// Load reads a join directory; the error lists everything that is wrong.
func Load(dir string) (*Dir, error) {
	d := &Dir{}
	var errs []error
	fail := func(file string, err error) { errs = append(errs, fmt.Errorf("%s: %w", filepath.Join(dir, file), err)) }
	if text, err := os.ReadFile(filepath.Join(dir, InfoFile)); err != nil {
		errs = append(errs, err)
	} else if err := d.decode(text); err != nil {
		fail(InfoFile, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, KeyFile)); err != nil {
		errs = append(errs, err)
	} else if d.key, err = parseKey(text); err != nil {
		fail(KeyFile, err)
	}
	var err error
	if d.CA, err = os.ReadFile(filepath.Join(dir, CAFile)); err != nil {
		errs = append(errs, err)
	} else if !x509.NewCertPool().AppendCertsFromPEM(d.CA) {
		fail(CAFile, errors.New("holds no certificate"))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("join directory (made by `patchbay token join`): %w", errors.Join(errs...))
	}
	return d, nil
}

func (d *Dir) decode(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d.Info); err != nil {
		return err
	}
	if d.Version != 1 || d.Namespace == "" || d.Workload == "" || d.KeyID == "" || d.TrustDomain == "" {
		return errors.New("version 1, namespace, workload, keyId and trustDomain are needed")
	}
	return nil
}

// parseKey never puts the file's content into an error.
func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	ec, ok := key.(*ecdsa.PrivateKey)
	if err != nil || !ok || ec.Curve != elliptic.P256() {
		return nil, errors.New("is not a P-256 private key (PKCS #8)")
	}
	return ec, nil
}

// Proof makes a one-time proof for a certificate request.
func (d *Dir) Proof(csrDER []byte) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: d.key, KeyID: d.KeyID}}, nil)
	if err != nil {
		return "", fmt.Errorf("make proof: %w", err)
	}
	now := time.Now()
	proof, err := jwt.Signed(signer).Claims(Claims{
		Claims: jwt.Claims{
			Issuer: d.Namespace + "/" + d.Workload, Audience: jwt.Audience{Audience(d.TrustDomain)}, ID: rand.Text(),
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(ProofLife)),
		},
		CSR: Digest(csrDER),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("make proof: %w", err)
	}
	return proof, nil
}

package join

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
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

// Proof makes a one-time proof for a certificate request. It is good from now
// on for [ProofLife].
func (d *Dir) Proof(csrDER []byte) (string, error) {
	now := time.Now()
	return d.Sign(Claims{
		Claims: jwt.Claims{
			Issuer: d.Namespace + "/" + d.Workload, Audience: jwt.Audience{Audience(d.TrustDomain)}, ID: rand.Text(),
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(ProofLife)),
		},
		CSR: Digest(csrDER),
	})
}

// Sign makes a proof that says what the caller wants.
func (d *Dir) Sign(c Claims) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: d.key, KeyID: d.KeyID}}, nil)
	if err != nil {
		return "", fmt.Errorf("make proof: %w", err)
	}
	proof, err := jwt.Signed(signer).Claims(c).Serialize()
	if err != nil {
		return "", fmt.Errorf("make proof: %w", err)
	}
	return proof, nil
}

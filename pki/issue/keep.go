package issue

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// kept is a Prepared as it rests. Its fields are a contract between replicas of
// different versions: add, never change.
type kept struct {
	Version int    `json:"version"`
	KeyPEM  string `json:"privateKeyPem"`
	CSRPEM  string `json:"csrPem"`
	By      string `json:"by,omitempty"` // the replica that prepared it
}

// Encode is p to be kept in secret, with the replica that prepared it; empty:
// one without a name.
func (p *Prepared) Encode(by string) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return json.Marshal(kept{
		Version: 1, KeyPEM: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		CSRPEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: p.CSR.Raw})), By: by,
	})
}

// DecodePrepared reads what Encode wrote and checks that it is for this request.
// The error quotes nothing of it.
func DecodePrepared(text []byte, r Request) (p *Prepared, by string, err error) {
	var v kept
	if err := json.Unmarshal(text, &v); err != nil || v.Version != 1 {
		return nil, "", errors.New("not a prepared key") // the cause may quote the value
	}
	keyPEM, _ := pem.Decode([]byte(v.KeyPEM))
	csrPEM, _ := pem.Decode([]byte(v.CSRPEM))
	if keyPEM == nil || csrPEM == nil {
		return nil, "", errors.New("no PEM")
	}
	private, err := x509.ParsePKCS8PrivateKey(keyPEM.Bytes)
	key, ok := private.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, "", errors.New("holds no ECDSA key")
	}
	csr, err := x509.ParseCertificateRequest(csrPEM.Bytes)
	if err != nil {
		return nil, "", err
	}
	if !key.PublicKey.Equal(csr.PublicKey) || !slices.Equal(csr.DNSNames, r.Names) || len(csr.URIs) != 1 || csr.URIs[0].String() != r.URI {
		return nil, "", errors.New("its request is for another key or other names")
	}
	return &Prepared{Key: key, CSR: csr}, v.By, nil
}

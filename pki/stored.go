package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/secret"
)

// storedLeaf is the value of a leaf's secret. Its fields are a contract
// between replicas of different versions: add, never change.
type storedLeaf struct {
	Version       int       `json:"version"`
	Namespace     string    `json:"namespace"`
	DiscoveryName string    `json:"discoveryName"`
	Issuer        string    `json:"issuer"`
	ChainPEM      string    `json:"chainPem"`
	KeyPEM        string    `json:"privateKeyPem"`
	IssuedAt      time.Time `json:"issuedAt"`
	KMSKey        string    `json:"kmsKey,omitempty"` // that it was to rest under
}

func encodeLeaf(l *mesh.Leaf, covers want) ([]byte, error) {
	return json.Marshal(storedLeaf{
		Version: 1, Namespace: l.Service.Namespace, DiscoveryName: l.Service.DiscoveryName, Issuer: covers.issuer,
		ChainPEM: string(l.ChainPEM), KeyPEM: string(l.KeyPEM), IssuedAt: l.IssuedAt, KMSKey: covers.kmsKey,
	})
}

// decodeLeaf reads what encodeLeaf wrote and checks that it is whole: the
// service's, and the key the certificate's.
func decodeLeaf(s secret.Entry, name mesh.ServiceName) (*mesh.Leaf, want, error) {
	var v storedLeaf
	if err := json.Unmarshal(s.Value, &v); err != nil {
		return nil, want{}, fmt.Errorf("%s: not a leaf", s) // the cause may quote the value
	}
	if v.Version != 1 || v.Namespace != name.Namespace || v.DiscoveryName != name.DiscoveryName {
		return nil, want{}, fmt.Errorf("%s: holds version %d of %s.%s", s, v.Version, v.DiscoveryName, v.Namespace)
	}
	if _, err := tls.X509KeyPair([]byte(v.ChainPEM), []byte(v.KeyPEM)); err != nil {
		return nil, want{}, fmt.Errorf("%s: %w", s, err)
	}
	chain, err := issue.ParseCertificates([]byte(v.ChainPEM))
	if err != nil {
		return nil, want{}, fmt.Errorf("%s: %w", s, err)
	}
	leaf := &mesh.Leaf{
		Service: name, Issuer: v.Issuer, ChainPEM: []byte(v.ChainPEM), KeyPEM: []byte(v.KeyPEM),
		Serial: chain[0].SerialNumber.Text(16), IssuedAt: v.IssuedAt,
		NotBefore: chain[0].NotBefore, NotAfter: chain[0].NotAfter,
	}
	covers := want{issuer: v.Issuer, kmsKey: v.KMSKey, names: slices.Sorted(slices.Values(chain[0].DNSNames))}
	if len(chain[0].URIs) == 1 {
		covers.uri = chain[0].URIs[0].String()
	}
	return leaf, covers, nil
}

// storedKey is the value of what is prepared for a leaf.
type storedKey struct {
	Version int    `json:"version"`
	KeyPEM  string `json:"privateKeyPem"`
	CSRPEM  string `json:"csrPem"`
	By      string `json:"by,omitempty"` // the replica that prepared it
}

func encodePrepared(p *issue.Prepared, by string) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return json.Marshal(storedKey{
		Version: 1, KeyPEM: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		CSRPEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: p.CSR.Raw})), By: by,
	})
}

// decodePrepared reads what encodePrepared wrote and checks that it is for
// this request, and by whom.
func decodePrepared(s secret.Entry, r issue.Request) (p *issue.Prepared, by string, err error) {
	var v storedKey
	if err := json.Unmarshal(s.Value, &v); err != nil || v.Version != 1 {
		return nil, "", fmt.Errorf("%s: not a prepared key", s) // the cause may quote the value
	}
	keyPEM, _ := pem.Decode([]byte(v.KeyPEM))
	csrPEM, _ := pem.Decode([]byte(v.CSRPEM))
	if keyPEM == nil || csrPEM == nil {
		return nil, "", fmt.Errorf("%s: no PEM", s)
	}
	any, err := x509.ParsePKCS8PrivateKey(keyPEM.Bytes)
	key, ok := any.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, "", fmt.Errorf("%s: holds no ECDSA key", s)
	}
	csr, err := x509.ParseCertificateRequest(csrPEM.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", s, err)
	}
	if !key.PublicKey.Equal(csr.PublicKey) || !slices.Equal(csr.DNSNames, r.Names) || len(csr.URIs) != 1 || csr.URIs[0].String() != r.URI {
		return nil, "", fmt.Errorf("%s: its request is for another key or other names", s)
	}
	return &issue.Prepared{Key: key, CSR: csr}, v.By, nil
}

// storedBundle is the value of a bundle's secret.
type storedBundle struct {
	Version int          `json:"version"`
	Issuer  string       `json:"issuer"`
	Roots   []storedRoot `json:"roots"`
}

type storedRoot struct {
	PEM     string    `json:"pem"`
	Since   time.Time `json:"since,omitzero"`
	Missing time.Time `json:"missing,omitzero"`
	Until   time.Time `json:"until,omitzero"`
}

package pki

import (
	"crypto/tls"
	"encoding/json"
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

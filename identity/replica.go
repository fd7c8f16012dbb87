package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"sync"
	"time"

	"patchbay/identity/join"
)

// replicaPath is the SPIFFE path of a replica of the control plane. No node has
// it: a node's starts with its namespace.
const replicaPath = "/control-replica"

// Replica is both ends of the line between replicas: TLS 1.3, each with a
// certificate of the control channel's CA that says that it is a replica. It is
// safe for concurrent use.
type Replica struct {
	signer *Signer

	mu   sync.Mutex
	cert *tls.Certificate
}

// NewReplica does no I/O.
func NewReplica(s *Signer) *Replica { return &Replica{signer: s} }

var errNoReplica = errors.New("the other end is not a replica of this control plane")

// Server is the accepting end.
func (r *Replica) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: r.signer.Pool(),
		GetCertificate:   func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.certificate() },
		VerifyConnection: r.verify,
	}
}

// Client is the dialling end.
func (r *Replica) Client() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: r.signer.Pool(), ServerName: join.ServerName(r.signer.trustDomain),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return r.certificate() },
		VerifyConnection:     r.verify,
	}
}

func (r *Replica) name() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: r.signer.trustDomain, Path: replicaPath}
}

func (r *Replica) verify(c tls.ConnectionState) error {
	if len(c.VerifiedChains) == 0 || len(c.PeerCertificates[0].URIs) != 1 || *c.PeerCertificates[0].URIs[0] != *r.name() {
		return errNoReplica
	}
	return nil
}

// certificate is made anew when half its life is over.
func (r *Replica) certificate() (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cert != nil && time.Now().Before(r.cert.Leaf.NotAfter.Add(-serverLife/2)) {
		return r.cert, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := r.signer.leaf(key.Public(), &x509.Certificate{
		DNSNames: []string{join.ServerName(r.signer.trustDomain)}, URIs: []*url.URL{r.name()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotAfter:    time.Now().Add(serverLife),
	})
	if err != nil {
		return nil, err
	}
	r.cert = &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
	return r.cert, nil
}

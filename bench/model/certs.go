package model

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"patchbay/identity"
	"patchbay/identity/join"
	"patchbay/identity/registered"
	"patchbay/mesh"
)

// trustDomain is that of the benchmark's control channel.
const trustDomain = "bench.patchbay"

var workload = mesh.Workload{Namespace: Namespace, Name: "web"}

type certs struct {
	nodes [][]byte // DER, by client; all of one key
	key   *ecdsa.PrivateKey
	roots *x509.CertPool
}

// WriteCerts makes, in dir, a control plane's data directory with the workload
// of all clients, and a node certificate for each of them.
func WriteCerts(dir string, clients int) error {
	joined, err := identity.MakeJoin(identity.JoinRequest{Data: dir, TrustDomain: trustDomain, Workload: workload, Out: filepath.Join(dir, "join")})
	if err != nil {
		return err
	}
	signer, err := identity.OpenSigner(identity.ControlDir(dir), trustDomain)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return err
	}
	var chain bytes.Buffer
	for i := range clients {
		cert, err := signer.SignNode(mesh.Node{Workload: workload, Task: strconv.Itoa(i)}, joined.Info.KeyID, csr)
		if err == nil {
			err = pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
		}
		if err != nil {
			return err
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{"nodes.pem": chain.Bytes(), "key.der": der, "ca.pem": signer.CA()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func readCerts(dir string) (c certs, err error) {
	chain, err := os.ReadFile(filepath.Join(dir, "nodes.pem"))
	if err != nil {
		return c, err
	}
	for b, rest := pem.Decode(chain); b != nil; b, rest = pem.Decode(rest) {
		c.nodes = append(c.nodes, b.Bytes)
	}
	der, err := os.ReadFile(filepath.Join(dir, "key.der"))
	if err != nil {
		return c, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return c, err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return c, err
	}
	c.roots = x509.NewCertPool()
	if c.key, _ = key.(*ecdsa.PrivateKey); c.key == nil || !c.roots.AppendCertsFromPEM(ca) {
		return c, fmt.Errorf("%s does not hold what WriteCerts writes", dir)
	}
	return c, nil
}

// config is the TLS of one client.
func (c certs) config(number int) *tls.Config {
	pair := tls.Certificate{Certificate: [][]byte{c.nodes[number]}, PrivateKey: c.key}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: c.roots, ServerName: join.ServerName(trustDomain), MinVersion: tls.VersionTLS13}
}

// Guard is the control channel's, as the product has it, with the files of
// [WriteCerts].
func Guard(dir string, log *slog.Logger) (*identity.Guard, error) {
	signer, err := identity.OpenSigner(identity.ControlDir(dir), trustDomain)
	if err != nil {
		return nil, err
	}
	workloads := registered.New(registered.Dir(dir), log)
	return identity.NewGuard(signer, workloads, log), workloads.Load()
}

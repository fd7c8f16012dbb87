package join

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
)

// attempt bounds one call to the control plane.
const attempt = 10 * time.Second

// exchange gets a certificate for a new key: by the present certificate if
// there is a good one, else by a proof.
func (m *Member) exchange(ctx context.Context, dir *Dir) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the node's key: %w", err)
	}
	// The request names nothing: the control plane knows who asks.
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("make the certificate request: %w", err)
	}
	how := "renewed"
	answer, err := m.renew(ctx, dir, csr)
	if err != nil {
		var enrolErr error
		how = "enrolled"
		if answer, enrolErr = m.enrol(ctx, dir, csr); enrolErr != nil {
			if errors.Is(err, errNothingToRenew) || enrolErr.Error() == err.Error() {
				return enrolErr
			}
			return fmt.Errorf("renew: %w; enrol: %w", err, enrolErr)
		}
	}
	c, err := m.check(dir, answer, key)
	if err != nil {
		return fmt.Errorf("the control plane's answer: %w", err)
	}
	before := target(m.cfg.State)
	if err := c.write(m.cfg.State, m.cfg.UID); err != nil {
		return fmt.Errorf("keep the node certificate: %w", err)
	}
	m.hold(dir, c, answer.GetDiscoveryNames())
	m.cfg.Log.Info("node certificate received", "node", answer.GetNodeId(), "how", how, "serial", fmt.Sprintf("%x", c.tls.Leaf.SerialNumber), "not_after", c.tls.Leaf.NotAfter)
	if err := prune(m.cfg.State, before); err != nil {
		m.cfg.Log.Warn("older node certificates stay behind", "error", err)
	}
	return nil
}

var errNothingToRenew = errors.New("there is no certificate to renew")

func (m *Member) renew(ctx context.Context, dir *Dir, csr []byte) (*agentapi.EnrolResponse, error) {
	c := m.held()
	if c == nil || !time.Now().Before(c.tls.Leaf.NotAfter) || !c.by(dir) {
		return nil, errNothingToRenew
	}
	cfg := trust(c.ca, ServerName(dir.TrustDomain))
	cfg.Certificates = []tls.Certificate{c.tls}
	return m.call(ctx, cfg, func(ctx context.Context, client agentapi.EnrolmentClient) (*agentapi.EnrolResponse, error) {
		return client.Renew(ctx, &agentapi.RenewRequest{CsrDer: csr})
	})
}

func (m *Member) enrol(ctx context.Context, dir *Dir, csr []byte) (*agentapi.EnrolResponse, error) {
	proof, err := dir.proof(ctx, csr)
	if err != nil {
		return nil, err
	}
	return m.call(ctx, trust(dir.CA, ServerName(dir.TrustDomain)), func(ctx context.Context, client agentapi.EnrolmentClient) (*agentapi.EnrolResponse, error) {
		return client.Enrol(ctx, &agentapi.EnrolRequest{Proof: proof, Namespace: dir.Namespace, Workload: dir.Workload, Task: m.cfg.Task, CsrDer: csr})
	})
}

// call uses a connection of its own, so that it always shows the certificate
// that it means to show.
func (m *Member) call(ctx context.Context, cfg *tls.Config, f func(context.Context, agentapi.EnrolmentClient) (*agentapi.EnrolResponse, error)) (*agentapi.EnrolResponse, error) {
	options := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(cfg))}
	if m.cfg.Dial != nil {
		options = append(options, grpc.WithContextDialer(m.cfg.Dial))
	}
	conn, err := m.cfg.Control.Dial(options...)
	if err != nil {
		return nil, fmt.Errorf("control plane %s: %w", m.cfg.Control, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	answer, err := f(ctx, agentapi.NewEnrolmentClient(conn))
	if err != nil {
		m.cfg.Control.Failed(err)
		return nil, fmt.Errorf("control plane %s: %s: %s%s", m.cfg.Control, status.Code(err), status.Convert(err).Message(), Swapped(err))
	}
	return answer, nil
}

// check trusts an answer only if it is a certificate of this node, for its
// key, by the control channel's CA.
func (m *Member) check(dir *Dir, r *agentapi.EnrolResponse, key *ecdsa.PrivateKey) (*certificate, error) {
	if len(r.GetChainDer()) == 0 {
		return nil, errors.New("holds no certificate")
	}
	leaf, err := x509.ParseCertificate(r.GetChainDer()[0])
	if err != nil {
		return nil, err
	}
	if pub, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(&key.PublicKey) {
		return nil, errors.New("the certificate is for another key")
	}
	if id := KeyOf(leaf); id != dir.KeyID {
		return nil, fmt.Errorf("the certificate is for join key %q, not for %q", id, dir.KeyID)
	}
	c := &certificate{tls.Certificate{Certificate: r.GetChainDer(), PrivateKey: key, Leaf: leaf}, r.GetCaPem()}
	// At the time that the control plane means: this machine's clock may lag.
	return c, c.usable(SPIFFEID(dir.TrustDomain, m.node(dir)), c.ca, leaf.NotBefore)
}

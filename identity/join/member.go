package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc/credentials"

	"patchbay/identity/taskrole"
	"patchbay/mesh"
)

// A certificate is renewed at a random point between these parts of its life,
// so that tasks that started together don't come together.
const (
	renewFrom = 0.5
	renewTo   = 0.6
)

// Retries of an exchange grow from first to most, with jitter.
const (
	retryFirst = 200 * time.Millisecond
	retryMost  = 10 * time.Second
	// settle is for how long a join directory may be wrong at the start:
	// somebody may be writing it.
	settle = time.Second
	// tellAgain is how often an unchanged reason for waiting is logged.
	tellAgain = time.Minute
	// pace is how often the clock and the join directory are looked at: a
	// machine may have been asleep, or its clock be wrong.
	pace = time.Minute
)

// Config of a [Member].
type Config struct {
	Dir string // the join directory
	// Control is where the control plane is.
	Control *Addresses
	Task    string // this task's name, unique in its workload
	State   string // where Envoy reads the node certificate: <State>/current/{cert,key,ca}.pem
	UID     int    // of Envoy: owner of these files; 0 or less: this process
	Log     *slog.Logger
	// Dial connects to one of Control; nil is TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// Member is a task's membership in the mesh: its node certificate, kept fresh.
// The node's key is made here and never leaves the machine. It is safe for
// concurrent use.
type Member struct {
	cfg Config

	mu      sync.Mutex
	dir     *Dir // as it was read last
	cert    *certificate
	names   []string // what the workload may offer
	renewAt time.Time
	failure string // why the last exchange failed; empty if it did not
}

// New does no I/O.
func New(cfg Config) *Member { return &Member{cfg: cfg} }

// Join returns as soon as the task holds a good node certificate: the one that
// an earlier run left in the state directory (not where it joins by its AWS
// role: what it may offer is the control plane's to say), or a new one. It retries for as
// long as ctx lasts, and logs what it waits for: the join directory, the
// control plane, or what the control plane objects to. Its error is the
// context's cause, or everything that is wrong with the task's name or with
// the content of the join directory.
func (m *Member) Join(ctx context.Context) error {
	if !mesh.ValidTask(m.cfg.Task) {
		_, err := Load(m.cfg.Dir)
		return errors.Join(fmt.Errorf("task: %q; allowed: 1 to 64 of [0-9a-zA-Z_-]", m.cfg.Task), err)
	}
	var bad string
	var badSince time.Time
	return m.retry(ctx, "waiting to join the mesh", func() error {
		dir, err := Load(m.cfg.Dir)
		switch {
		case err != nil && errors.Is(err, fs.ErrNotExist):
			return err
		case err != nil && err.Error() != bad:
			bad, badSince = err.Error(), time.Now()
			return err
		case err != nil && time.Since(badSince) < settle:
			return err
		case err != nil:
			return backoff.Permanent(err)
		}
		if dir.ByRole() && dir.KeyID != taskrole.KeyIDOf(m.cfg.Task) {
			return backoff.Permanent(fmt.Errorf("task: %q; allowed with a join directory of %s: the name that AWS gave (start again if the directory came later)", m.cfg.Task, dir.KeyID))
		}
		if kept, err := read(m.cfg.State); err == nil && !dir.ByRole() && kept.usable(SPIFFEID(dir.TrustDomain, m.node(dir)), dir.CA, time.Now()) == nil {
			if err := kept.giveTo(m.cfg.State, m.cfg.UID); err != nil {
				return fmt.Errorf("keep the node certificate: %w", err)
			}
			m.hold(dir, kept, dir.DiscoveryNames)
			m.cfg.Log.Info("kept the node certificate of an earlier run", "node", m.node(dir).ID(), "not_after", kept.tls.Leaf.NotAfter)
			return nil
		}
		return m.exchange(ctx, dir)
	})
}

// Run renews the certificate until ctx ends and returns the context's cause.
// Call it after [Member.Join]. It enrols anew where renewing is not possible:
// the certificate has expired, or the join directory has another key or CA.
func (m *Member) Run(ctx context.Context) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		if m.due() {
			if err := m.retry(ctx, "the node certificate is not renewed", func() error { return m.exchange(ctx, m.reload()) }); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// due reports whether the certificate in use should be replaced.
func (m *Member) due() bool {
	dir := m.reload()
	m.mu.Lock()
	defer m.mu.Unlock()
	return !time.Now().Before(m.renewAt) || !bytes.Equal(dir.CA, m.dir.CA) || !m.cert.by(dir)
}

// reload reads the join directory again. Where it can't be read, what was
// known of it goes on to count.
func (m *Member) reload() *Dir {
	if dir, err := Load(m.cfg.Dir); err == nil {
		return dir
	}
	return m.known()
}

// retry runs f until it succeeds. It tells the reason when that changes, and
// again each minute.
func (m *Member) retry(ctx context.Context, meanwhile string, f func() error) error {
	b := &backoff.ExponentialBackOff{InitialInterval: retryFirst, MaxInterval: retryMost, Multiplier: 1.6, RandomizationFactor: 0.5}
	var told string
	var toldAt time.Time
	notify := func(err error, next time.Duration) {
		m.mu.Lock()
		m.failure = err.Error()
		m.mu.Unlock()
		if reason := err.Error(); reason != told || time.Since(toldAt) >= tellAgain {
			told, toldAt = reason, time.Now()
			m.cfg.Log.WarnContext(ctx, meanwhile, "error", reason, "address", m.cfg.Control.String(), "certificate_left", m.left(), "retry_in", next.Round(time.Millisecond))
		}
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, f() },
		backoff.WithBackOff(b), backoff.WithNotify(notify), backoff.WithMaxElapsedTime(0))
	if err == nil {
		m.mu.Lock()
		m.failure = ""
		m.mu.Unlock()
	}
	return err
}

func (m *Member) node(d *Dir) mesh.Node {
	return mesh.Node{Workload: mesh.Workload{Namespace: d.Namespace, Name: d.Workload}, Task: m.cfg.Task}
}

// hold makes a certificate the one in use.
func (m *Member) hold(d *Dir, c *certificate, names []string) {
	leaf := c.tls.Leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	part := renewFrom + (renewTo-renewFrom)*rand.Float64() //nolint:gosec // jitter
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dir, m.cert, m.names = d, c, names
	m.renewAt = leaf.NotBefore.Add(time.Duration(part * float64(life)))
}

func (m *Member) known() *Dir {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dir
}

// held is nil before the first certificate.
func (m *Member) held() *certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cert
}

func (m *Member) left() time.Duration {
	if c := m.held(); c != nil {
		return max(0, time.Until(c.tls.Leaf.NotAfter)).Round(time.Second)
	}
	return 0
}

// Node is the task as its certificate names it, with what its workload may
// offer. Like all methods below it may be called once [Member.Join] has
// returned without error.
func (m *Member) Node() mesh.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.node(m.dir)
	n.Workload.DiscoveryNames = m.names
	return n
}

// ServerName is what the control plane's certificate must be for.
func (m *Member) ServerName() string { return ServerName(m.known().TrustDomain) }

// NotAfter is when the certificate in use ends.
func (m *Member) NotAfter() time.Time { return m.held().tls.Leaf.NotAfter }

// Failure says why the certificate could not be renewed; empty while it can.
func (m *Member) Failure() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failure
}

// ClientTLS is TLS 1.3 to the control plane. Each handshake shows and trusts
// what is in use at that moment, so that the result may be kept for ever.
func (m *Member) ClientTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: m.ServerName(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &m.held().tls, nil },
		InsecureSkipVerify:   true, //nolint:gosec // verified below, against today's CA
		VerifyConnection: func(s tls.ConnectionState) error {
			// The control channel's CA signs its certificates itself.
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots(m.held().ca), DNSName: m.ServerName()})
			return err
		},
	}
}

// Credentials are ClientTLS for gRPC. Dial with grpc.WithNoProxy: a proxy of
// the environment is for the application.
func (m *Member) Credentials() credentials.TransportCredentials {
	return credentials.NewTLS(m.ClientTLS())
}

func trust(ca []byte, serverName string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots(ca), ServerName: serverName}
}

func roots(ca []byte) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return pool
}

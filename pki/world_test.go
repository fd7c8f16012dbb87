package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/secret"
)

var errAway = errors.New("connection refused")

// authority is an Issuer inside the process, whose clock is the test's, and
// which can be away, slow or confused.
type authority struct {
	life time.Duration
	took time.Duration // how long an issue takes

	mu     sync.Mutex
	sign   *testca.CA
	listed [][]byte // PEM of the roots that it lists
	away   error
	order  []issued // every Issue that it was asked for
	flying map[mesh.ServiceName]int
	most   int // flights of one service at once
	serial int64
}

type issued struct {
	service mesh.ServiceName
	at      time.Time
}

func newAuthority(t *testing.T, life time.Duration) *authority {
	t.Helper()
	a := &authority{life: life, took: 10 * time.Millisecond, flying: map[mesh.ServiceName]int{}, serial: 1000}
	a.use(testca.Named(t, "first"))
	return a
}

// use makes s the signer and the one root listed.
func (a *authority) use(s *testca.CA) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sign, a.listed = s, [][]byte{issue.EncodeCertificates([]*x509.Certificate{s.Cert})}
}

func (a *authority) set(change func(*authority)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *authority) issues() []issued {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]issued(nil), a.order...)
}

func (a *authority) Roots(context.Context) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.Join(a.listed, nil), a.away
}

func (a *authority) Issue(ctx context.Context, r issue.Request) (*mesh.Leaf, error) {
	a.set(func(*authority) {
		a.order = append(a.order, issued{r.Service, time.Now()})
		a.flying[r.Service]++
		a.most = max(a.most, a.flying[r.Service])
	})
	defer a.set(func(*authority) { a.flying[r.Service]-- })
	if !sleep(ctx, a.took) {
		return nil, ctx.Err()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away != nil {
		return nil, a.away
	}
	p, err := r.Prepare()
	if err != nil {
		return nil, err
	}
	a.serial++
	tmpl := leafTemplate(p.CSR, a.life)
	tmpl.SerialNumber = big.NewInt(a.serial)
	cert := a.sign.Sign(tmpl, p.CSR.PublicKey)
	return issue.Accept(r, []*x509.Certificate{cert}, p.Key, a.life, []*x509.Certificate{a.sign.Cert}, time.Now())
}

// leafTemplate is a certificate as it should be.
func leafTemplate(csr *x509.CertificateRequest, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: slices.Clone(csr.DNSNames), URIs: csr.URIs,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func prepared(r issue.Request) (*ecdsa.PrivateKey, *x509.CertificateRequest) {
	p := must(r.Prepare())
	return p.Key, p.CSR
}

// brokenStore is a secret store whose medium fails.
type brokenStore struct{}

var errDisk = errors.New("input/output error")

func (brokenStore) Load(context.Context, string) (secret.Entry, error) {
	return secret.Entry{}, errDisk
}
func (brokenStore) Save(context.Context, secret.Entry) error { return errDisk }
func (brokenStore) Prepare(context.Context, secret.Entry) (secret.Entry, bool, error) {
	return secret.Entry{}, false, errDisk
}

// world is a rotator over one issuer named default, in a synctest bubble.
type world struct {
	t       *testing.T
	ca      *authority
	store   *mesh.Store
	secrets secret.Store
	rotator *Rotator
	log     *syncWriter
	o       RotatorOptions
	issuers map[string]issue.Issuer
	stop    func()
}

// inWorld runs test in a bubble of fake time.
func inWorld(t *testing.T, life time.Duration, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, ca: newAuthority(t, life), store: mesh.NewStore(), secrets: secret.NewMemory(), log: &syncWriter{},
			o: RotatorOptions{TrustDomain: "mesh.test"},
		}
		w.issuers = map[string]issue.Issuer{"default": w.ca}
		w.stop = func() {}
		defer checkLog(t, w)
		defer func() { w.stop() }()
		test(t, w)
	})
}

// start runs a new rotator, as a new process would.
func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := NewRotator(w.store, w.issuers, w.secrets, w.o, slog.New(slog.NewTextHandler(w.log, nil)))
	w.rotator = r
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			w.t.Errorf("Run: %v", err)
		}
	})
}

// restart ends the rotator and starts one with an empty mesh.Store that holds
// the same services.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	old := w.store.Snapshot()
	w.store = mesh.NewStore()
	w.store.SetServices("prod", old.Namespace("prod"))
	w.start()
}

type syncWriter struct {
	mu sync.Mutex
	w  bytes.Buffer
}

func (s *syncWriter) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.String()
}

func (s *syncWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

func name(n string) mesh.ServiceName { return mesh.ServiceName{Namespace: "prod", DiscoveryName: n} }

func svc(n string, aliases ...string) *mesh.Service {
	s := &mesh.Service{Name: name(n), Protocol: mesh.HTTP, TLS: &mesh.ServiceTLS{Issuer: "default"}}
	for _, a := range aliases {
		s.Aliases = append(s.Aliases, mesh.Alias{DNSName: a, Port: 80})
	}
	return s
}

func services(n int) []*mesh.Service {
	out := make([]*mesh.Service, n)
	for i := range out {
		out[i] = svc(fmt.Sprintf("s%03d", i))
	}
	return out
}

// pass lets d of fake time go by and everything settle.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) leaf(n string) *mesh.Leaf {
	w.t.Helper()
	l := w.store.Snapshot().Leaves[name(n)]
	if l == nil {
		w.t.Fatalf("%s has no leaf", n)
	}
	return l
}

func (w *world) status(n string) ServiceStatus {
	w.t.Helper()
	for _, s := range w.rotator.Status().Services {
		if s.Service == name(n) {
			return s
		}
	}
	w.t.Fatalf("%s is not in the status", n)
	return ServiceStatus{}
}

// trusted fails unless each leaf verifies with its issuer's bundle, as a
// caller's Envoy would.
func trusted(t *testing.T, s *mesh.Snapshot) {
	t.Helper()
	for _, l := range s.Leaves {
		b := s.Bundles[l.Issuer]
		if b == nil {
			t.Errorf("%v without a bundle of %q", l, l.Issuer)
			continue
		}
		chain, err := issue.ParseCertificates(l.ChainPEM)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: b.Pool(), DNSName: l.Service.String()}); err != nil {
			t.Errorf("%v: %v", l, err)
		}
	}
}

// checkLog fails if anything secret was logged.
func checkLog(t *testing.T, w *world) {
	t.Helper()
	log := w.log.String()
	if strings.Contains(log, "-----BEGIN") {
		t.Errorf("PEM in the log:\n%s", log)
	}
	for l := range maps.Values(w.store.Snapshot().Leaves) {
		for line := range strings.Lines(string(l.KeyPEM)) {
			if !strings.HasPrefix(line, "---") && strings.Contains(log, strings.TrimSpace(line)) {
				t.Errorf("key of %v in the log", l)
			}
		}
	}
}

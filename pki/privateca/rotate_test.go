package privateca_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/secrets"
	"patchbay/internal/awsfake/wire"
	"patchbay/mesh"
	"patchbay/pki"
	"patchbay/pki/issue"
	"patchbay/pki/privateca"
	"patchbay/pki/secret"
	"patchbay/pki/secret/secretsmanager"
)

// replica is one control plane's rotator and what it publishes.
type replica struct {
	store *mesh.Store
	*pki.Rotator
	stop func()
}

// startReplica runs a rotator over a private CA.
func startReplica(t testing.TB, s *wire.Server, arn string, secrets secret.Store, services []*mesh.Service) *replica {
	t.Helper()
	ca, err := privateca.New(aws.Config{HTTPClient: s.Client(), Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}, privateca.Options{ARN: arn, Endpoint: "http://aws"})
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{store: mesh.NewStore()}
	r.store.SetServices("prod", services)
	r.Rotator = pki.NewRotator(r.store, map[string]issue.Issuer{"default": ca}, secrets, pki.RotatorOptions{TrustDomain: "mesh.test", BundleRefresh: time.Hour}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx) //nolint:errcheck // ends with its context
	}()
	r.stop = func() { stop(); <-done }
	t.Cleanup(r.stop)
	return r
}

func services(n int) []*mesh.Service {
	out := make([]*mesh.Service, n)
	for i := range out {
		out[i] = &mesh.Service{Name: mesh.ServiceName{Namespace: "prod", DiscoveryName: fmt.Sprintf("s%03d", i)}, Protocol: mesh.HTTP, TLS: &mesh.ServiceTLS{Issuer: "default"}}
	}
	return out
}

// covered waits until every service has a leaf and returns how long it took.
func (r *replica) covered(t testing.TB, n int, limit time.Duration) time.Duration {
	t.Helper()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if len(r.store.Snapshot().Leaves) == n {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			t.Fatalf("%d of %d leaves after %s", len(r.store.Snapshot().Leaves), n, limit)
		}
	}
}

// TestColdStart has 300 services without a certificate before a CA that gives
// 25 a second; the time is that of the bubble, so it is exact.
func TestColdStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, rate = 300, 25
		p := pca.New(pca.Options{Polls: 2})
		arn := makeCA(t, p, pca.Spec{ShortLived: true})
		s := wire.New(wire.Options{}, p.API())
		r := startReplica(t, s, arn, secret.NewMemory(), services(n))
		took := r.covered(t, n, time.Minute)
		theory := time.Duration(n) * time.Second / rate
		t.Logf("%d certificates in %s, %.2f × the %s that the CA's rate allows; %d throttled", n, took, took.Seconds()/theory.Seconds(), theory, s.Throttled())
		if took > theory*13/10 {
			t.Errorf("took %s; the limit is 1.3 × %s", took, theory)
		}
		if got := p.Issued(arn); got != n {
			t.Errorf("%d certificates for %d services", got, n)
		}
	})
}

// A leaf lives for seven days and is renewed on day five; two days are left
// to a CA that is away.
func TestRenewedOnDayFive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		p := pca.New(pca.Options{})
		arn := makeCA(t, p, pca.Spec{})
		s := wire.New(wire.Options{}, p.API())
		r := startReplica(t, s, arn, secret.NewMemory(), services(20))
		r.covered(t, 20, time.Minute)
		first := r.store.Snapshot().Leaves
		time.Sleep(5*day - time.Minute)
		if got := p.Issued(arn); got != 20 {
			t.Errorf("%d renewed before day five", got-20)
		}
		time.Sleep(6*time.Hour + 2*time.Minute)
		if got := p.Issued(arn); got != 40 {
			t.Errorf("%d of 20 renewed on day five", got-20)
		}
		for name, l := range r.store.Snapshot().Leaves {
			if l.Serial == first[name].Serial || l.NotAfter.Sub(l.IssuedAt) < 7*day-time.Minute {
				t.Errorf("%v after %v", l, first[name])
			}
		}
	})
}

// race has replicas issue for, and then renew, n services over one Secrets
// Manager and one CA; some are killed on the way and others come.
type race struct {
	t       testing.TB
	aws     *wire.Server
	pca     *pca.PCA
	arn     string
	all     []*mesh.Service
	running []*replica
}

func newRace(t testing.TB, n int) *race {
	p := pca.New(pca.Options{Polls: 1})
	r := &race{t: t, pca: p, arn: makeCA(t, p, pca.Spec{ShortLived: true}), all: services(n)}
	r.aws = wire.New(wire.Options{}, p.API(), secrets.New(secrets.Options{Lag: 300 * time.Millisecond}).API())
	return r
}

func (r *race) start(t testing.TB) *replica {
	store, err := secretsmanager.New(aws.Config{Region: "us-east-1", HTTPClient: r.aws.Client(), Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")},
		secretsmanager.Options{Endpoint: "http://aws", Prefix: "ecs-sc/mesh/", Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	c := startReplica(t, r.aws, r.arn, store, r.all)
	r.running = append(r.running, c)
	return c
}

// agree fails unless all replicas have the same leaf of each service.
func (r *race) agree(t *testing.T) map[mesh.ServiceName]string {
	t.Helper()
	serials := map[mesh.ServiceName]string{}
	for i, c := range r.running {
		for name, l := range c.store.Snapshot().Leaves {
			if i == 0 {
				serials[name] = l.Serial
			} else if serials[name] != l.Serial {
				t.Errorf("%v: replica %d has %s, replica 0 has %s", name, i, l.Serial, serials[name])
			}
		}
	}
	return serials
}

// A race of five replicas for 300 services issues 300 certificates.
func TestRotationRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const replicas, n = 5, 300
		r := newRace(t, n)
		start := time.Now()
		for range replicas {
			r.start(t)
		}
		for _, c := range r.running {
			c.covered(t, n, time.Minute)
		}
		t.Logf("%d replicas, %d services: %d certificates in %s; %d calls throttled", replicas, n, r.pca.Issued(r.arn), time.Since(start), r.aws.Throttled())
		if got := r.pca.Issued(r.arn); got != n {
			t.Errorf("%d certificates for %d services", got, n)
		}
		r.agree(t)
	})
}

// So does one for their renewal on day five; the others look for what one has
// renewed, before they would renew it themselves.
func TestRenewalRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 40
		r := newRace(t, n)
		for range 4 {
			r.start(t)
		}
		for _, c := range r.running {
			c.covered(t, n, time.Minute)
		}
		first := r.agree(t)
		time.Sleep(5*24*time.Hour + 7*time.Hour)
		if got := r.pca.Issued(r.arn); got != 2*n {
			t.Errorf("after day five: %d certificates for %d services", got, n)
		}
		time.Sleep(10 * time.Hour) // each has looked
		for name, serial := range r.agree(t) {
			if serial == first[name] {
				t.Errorf("%v was not renewed", name)
			}
		}
	})
}

// Replicas die while they issue, at any moment, and others come: still one
// certificate for each service.
func TestRotationRaceWithDeaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		r := newRace(t, n)
		for range 5 {
			r.start(t)
		}
		for i := range 12 {
			time.Sleep(400 * time.Millisecond)
			victim := i % len(r.running)
			r.running[victim].stop()
			r.running = append(r.running[:victim], r.running[victim+1:]...)
			r.start(t)
		}
		for _, c := range r.running {
			c.covered(t, n, 2*time.Minute)
		}
		time.Sleep(time.Minute)
		r.agree(t)
		if got := r.pca.Issued(r.arn); got != n {
			t.Errorf("%d certificates for %d services", got, n)
		}
	})
}

// When all are due at once and the CA gives little, those whose certificates
// end first come first.
func TestEarliestExpiryFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day, n = 24 * time.Hour, 100
		p := pca.New(pca.Options{})
		arn := makeCA(t, p, pca.Spec{})
		s := wire.New(wire.Options{}, p.API())
		secrets := secret.NewMemory()
		all := services(n)
		first := startReplica(t, s, arn, secrets, nil)
		for i := range all { // one more every ten minutes, the names in reverse
			first.store.SetServices("prod", all[n-1-i:])
			time.Sleep(10 * time.Minute)
		}
		first.covered(t, n, time.Minute)
		first.stop()
		time.Sleep(6*day - 17*time.Hour) // all are overdue, none has ended
		s.Inject(wire.Fault{Operation: "IssueCertificate", Error: "ThrottlingException", Times: 40})
		second := startReplica(t, s, arn, secrets, all)
		var order []int
		seen := map[mesh.ServiceName]bool{}
		for start := time.Now(); len(order) < n && time.Since(start) < 10*time.Minute; {
			snap := second.store.Snapshot()
			for name, l := range snap.Leaves {
				if !seen[name] && time.Since(l.IssuedAt) < time.Hour {
					seen[name] = true
					var i int
					fmt.Sscanf(name.DiscoveryName, "s%d", &i) //nolint:errcheck // our own names
					order = append(order, n-1-i)
				}
			}
			<-second.store.Changed(snap.Generation)
		}
		if len(order) != n || s.Throttled() != 40 {
			t.Fatalf("%d renewed, %d throttled", len(order), s.Throttled())
		}
		for i, o := range order {
			// A lane slows down to a few a second: what is under way together
			// may land in any order.
			if d := i - o; d < -10 || d > 10 {
				t.Errorf("number %d by expiry came as number %d", o, i)
			}
		}
	})
}

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
	"patchbay/config"
	"patchbay/identity"
	"patchbay/identity/join"
	"patchbay/identity/taskrole"
	"patchbay/internal/envoytest"
)

// heard is how many other replicas a control plane hears.
func (p *plane) heard() float64 {
	for _, m := range p.metrics()["patchbay_replicas"].GetMetric() {
		if m.GetLabel()[0].GetValue() == "true" {
			return m.GetGauge().GetValue()
		}
	}
	return 0
}

// endpoints is how many a control plane shows of all services.
func (p *plane) endpoints() float64 {
	var n float64
	for _, m := range p.metrics()["patchbay_endpoints"].GetMetric() {
		n += m.GetGauge().GetValue()
	}
	return n
}

// Two control planes over one registry without a watch, as with AWS: what is
// registered through one is known to the other, and what leaves through one
// leaves the other at once, though it was the last instance. A proof is good at
// one of them.
func TestTwoReplicasAreOneMesh(t *testing.T) {
	r := startRegistry(t, "--listen", "127.0.0.1:0")
	_, _, sts := roleCloud(t)
	for name, v := range map[string]string{"AWS_ACCESS_KEY_ID": "role", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, v)
	}
	shared := t.TempDir()
	signer, err := identity.OpenSigner(shared, testDomain)
	if err != nil {
		t.Fatal(err)
	}
	replica := func(c *config.Config) {
		c.Registry, c.CloudMap = nil, &config.CloudMap{Endpoint: r.url, Region: "us-east-1"}
		c.Replicas = &config.Replicas{Listen: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
		if err := os.CopyFS(identity.ControlDir(c.Data), os.DirFS(shared)); err != nil {
			t.Fatal(err)
		}
	}
	a, b := startPlane(t, replica, withRoles(sts)), startPlane(t, replica, withRoles(sts))
	stranger := startPlane(t, func(c *config.Config) { // with a CA of its own
		replica(c)
		if err := os.RemoveAll(identity.ControlDir(c.Data)); err != nil {
			t.Fatal(err)
		}
	})
	both := func(what string, ok func(p *plane) bool) {
		t.Helper()
		envoytest.Eventually(t, time.Minute, func() error {
			if !ok(a) || !ok(b) {
				return fmt.Errorf("%s: a hears %v and has %v, b hears %v and has %v", what, a.heard(), a.endpoints(), b.heard(), b.endpoints())
			}
			return nil
		})
	}
	both("they hear each other", func(p *plane) bool { return p.heard() == 1 })
	k, _ := a.join("backend", "backend")
	a.offer(k, "backend", 15001)
	both("registered through a", func(p *plane) bool { return p.endpoints() == 1 })
	send(t, k, &agentapi.Up{Message: &agentapi.Up_Drain{Drain: &agentapi.Drain{}}})
	receive(t, k, (*agentapi.Down).GetDrainComplete)
	both("drained through a", func(p *plane) bool { return p.endpoints() == 0 })
	if n := stranger.heard(); n != 0 {
		t.Errorf("a control plane of another CA hears %v", n)
	}
	shown := proofs(t, sts, signer.CA())
	shown("a new proof", "1", b, true)
	shown("the same at the other replica", "1", a, false)
	shown("another one there", "2", a, true)
	shown("the same back at the first", "2", b, false)
	b.end()
	envoytest.Eventually(t, time.Minute, func() error {
		if n := a.heard(); n != 0 {
			return fmt.Errorf("a hears %v", n)
		}
		return nil
	})
	shown("a new one when nobody is heard", "3", a, true)
	shown("the same again", "3", a, false)
	other, _ := a.join("other", "other")
	a.offer(other, "other", 15002)
}

// proofs are proofs of a task's role, by any name, and whether a control plane
// takes them.
func proofs(t *testing.T, sts string, ca []byte) func(what, name string, p *plane, taken bool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	trust := &tls.Config{RootCAs: roots, ServerName: join.ServerName(testDomain), MinVersion: tls.VersionTLS13}
	made := map[string]*agentapi.EnrolRequest{}
	return func(what, name string, p *plane, taken bool) {
		t.Helper()
		if made[name] == nil { // signed in one second, they differ by their request
			csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
			if err != nil {
				t.Fatal(err)
			}
			text, err := taskrole.Sign(t.Context(), credentials.NewStaticCredentialsProvider("ASIATASK", "task", "session"), "us-east-1", sts, join.Audience(testDomain), csr)
			if err != nil {
				t.Fatal(err)
			}
			made[name] = &agentapi.EnrolRequest{Proof: text, Namespace: "demo", Workload: "backend", Task: ecsTask, CsrDer: csr}
		}
		_, err := agentapi.NewEnrolmentClient(p.dial(trust)).Enrol(t.Context(), made[name])
		if refused := status.Code(err) == codes.Unauthenticated && strings.Contains(err.Error(), "used before"); taken && err != nil || !taken && !refused {
			t.Errorf("%s: %v", what, err)
		}
	}
}

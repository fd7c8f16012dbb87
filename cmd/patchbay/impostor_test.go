//go:build broken

package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"patchbay/agentapi"
	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/stepca"
	"patchbay/xds/bootstrap"
)

// impostor NAME KIND offers the service NAME with TLS, by an agent that tells
// the truth about nothing: at its port is something else. Kinds: foreign-ca,
// wrong-san, expired, plain, tls12, nobody.
func (s *scene) impostor(words []string) {
	t, name, kind := s.t, words[0], words[1]
	var port int
	switch kind {
	case "nobody":
		port = freePort(t)
	case "plain":
		port = s.listens(nil)
	case "foreign-ca":
		port = s.listens(&tls.Config{Certificates: []tls.Certificate{testca.New(t).Certificate(t, name+".demo")}, MinVersion: tls.VersionTLS13})
	case "wrong-san":
		port = s.listens(&tls.Config{Certificates: []tls.Certificate{s.issued("other.demo", time.Hour)}, MinVersion: tls.VersionTLS13})
	case "expired":
		old := s.issued(name+".demo", 12*time.Second)
		port = s.listens(&tls.Config{Certificates: []tls.Certificate{old}, MinVersion: tls.VersionTLS13})
		envoytest.Eventually(t, 20*time.Second, func() error {
			if time.Now().Before(old.Leaf.NotAfter) {
				return errors.New("it is still valid")
			}
			return nil
		})
	case "tls12":
		port = s.listens(&tls.Config{Certificates: []tls.Certificate{s.issued(name+".demo", time.Hour)}, MaxVersion: tls.VersionTLS12})
	default:
		t.Fatalf("no impostor is %q", kind)
	}
	k, _ := s.p.join(name, name)
	send(t, k, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Ports: []*agentapi.Port{{
		PortName: "web", DiscoveryName: name, AppProtocol: "http", ContainerPort: 8080, IngressPort: uint32(port), Tls: &agentapi.Tls{Issuer: "default"},
		ClientAliases: []*agentapi.ClientAlias{{DnsName: name + ".demo", Port: uint32(s.port(name))}},
	}}}}})
	send(t, k, &agentapi.Up{Message: &agentapi.Up_Health{Health: &agentapi.Health{EnvoyReady: true, Ports: map[string]agentapi.Health_State{"web": agentapi.Health_HEALTHY}}}})
	if r := receive(t, k, (*agentapi.Down).GetRegistration); !r.GetRegistered() {
		t.Fatalf("not registered: %s", r.GetError())
	}
	go func() {
		for {
			m, err := k.stream.Recv()
			if err != nil {
				return
			}
			if q := m.GetAsk(); q != nil {
				k.stream.Send(&agentapi.Up{Message: &agentapi.Up_Answer{Answer: &agentapi.Answer{Id: q.GetId(), Error: "I say nothing"}}})
			}
		}
	}()
}

// listens serves HTTP; with c, below TLS.
func (s *scene) listens(c *tls.Config) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if c != nil {
		l = tls.NewListener(l, c)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "impostor") })}
	go server.Serve(l)
	s.t.Cleanup(func() { server.Close() })
	return port
}

// issued is a certificate of the mesh's own CA.
func (s *scene) issued(name string, life time.Duration) tls.Certificate {
	s.t.Helper()
	c := s.p.cfg.Issuers["default"].StepCA
	ca, err := stepca.New(stepca.Options{URL: c.URL, Fingerprint: c.Fingerprint, Provisioner: c.Provisioner, PasswordFile: c.PasswordFile, Lifetime: time.Hour})
	if err != nil {
		s.t.Fatal(err)
	}
	leaf, err := ca.Issue(s.t.Context(), issue.Request{Service: mesh.ServiceName{Namespace: "demo", DiscoveryName: "x"}, Names: []string{name}, Lifetime: life, URI: "spiffe://" + testDomain + "/x"})
	if err != nil {
		s.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(leaf.ChainPEM, leaf.KeyPEM)
	if err != nil {
		s.t.Fatal(err)
	}
	return pair
}

// bare NAME is an Envoy without an agent.
func (s *scene) bare(words []string) {
	k, _ := s.p.join(words[0])
	s.p.start(k, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind})
}

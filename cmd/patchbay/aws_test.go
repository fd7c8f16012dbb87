package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"patchbay/agentapi"
	"patchbay/audit"
	"patchbay/config"
	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/secrets"
	"patchbay/internal/awsfake/wire"
	"patchbay/internal/envoytest"
)

// TestOnAWS runs the control plane on Private CA (P-384, SHA-512) and Secrets
// Manager, with the policy that the reference pages give, and reads what it
// wrote into its audit log.
func TestOnAWS(t *testing.T) {
	ca := pca.New(pca.Options{Polls: 1})
	arn, err := ca.Make(pca.Spec{KeyAlgorithm: "EC_secp384r1", SigningAlgorithm: "SHA512WITHECDSA", ShortLived: true})
	if err != nil {
		t.Fatal(err)
	}
	cloud := wire.New(wire.Options{Principals: map[string]wire.Principal{
		"role": {Secret: "secret", ARN: "arn:aws:sts::111122223333:assumed-role/patchbay/1", Statements: documented(t, arn)},
	}}, ca.API(), secrets.New(secrets.Options{}).API())
	h := httptest.NewServer(cloud)
	t.Cleanup(h.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "role")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	p := startPlane(t, func(c *config.Config) {
		c.Issuers = map[string]config.Issuer{arn: {PrivateCA: &config.PrivateCA{Endpoint: h.URL}}}
		c.Secrets.SecretsManager = &config.SecretsManager{Endpoint: h.URL}
	})
	backend, _ := p.join("backend", "backend")
	send(t, backend, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Ports: []*agentapi.Port{{
		PortName: "web", DiscoveryName: "backend", AppProtocol: "http", ContainerPort: 8080, IngressPort: 15010,
		ClientAliases: []*agentapi.ClientAlias{{DnsName: "backend.demo", Port: 8080}}, Tls: &agentapi.Tls{Issuer: arn},
	}}}}})
	send(t, backend, &agentapi.Up{Message: &agentapi.Up_Health{Health: &agentapi.Health{EnvoyReady: true, Ports: map[string]agentapi.Health_State{"web": agentapi.Health_HEALTHY}}}})
	if r := receive(t, backend, (*agentapi.Down).GetRegistration); !r.GetRegistered() {
		t.Fatalf("not registered: %s", r.GetError())
	}
	envoytest.Eventually(t, 20*time.Second, func() error {
		if _, body := p.ask("/api/v1/certificates"); !regexp.MustCompile(`"serial": ?"[0-9a-f]+"`).Match(body) {
			return fmt.Errorf("no certificate: %s", body)
		}
		return nil
	})
	p.rotate("backend.demo")
	if resp, err := http.Post("http://"+p.cfg.Admin.Listen+"/api/v1/rotate?service=backend.demo", "", nil); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token: %v, %v", resp, err)
	}
	if n := ca.Issued(arn); n != 2 {
		t.Errorf("%d certificates for an issue and a rotation", n)
	}
	for _, c := range cloud.Calls() {
		if c.Error == "AccessDeniedException" {
			t.Errorf("the documented policies don't allow %s on %s", c.Action(), c.Resource)
		}
	}
	p.audited(arn)
}

// documented are the policies that docs/reference gives, for this CA.
func documented(t *testing.T, arn string) []wire.Statement {
	t.Helper()
	var all []wire.Statement
	for _, page := range []string{"private-ca", "secrets-manager"} {
		text, err := os.ReadFile("../../docs/reference/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "```json\n")
		policy, _, ok := strings.Cut(rest, "```")
		if !ok {
			t.Fatalf("%s has no policy", page)
		}
		policy = strings.NewReplacer("CA-ARN", arn, "REGION", "us-east-1", "ACCOUNT", "111122223333", "TRUSTDOMAIN", testDomain).Replace(policy)
		more, err := wire.ParsePolicy([]byte(policy))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, more...)
	}
	return all
}

// audited holds the audit log against what has happened in TestOnAWS.
func (p *plane) audited(issuer string) {
	p.t.Helper()
	r, err := audit.Verify(auditFile(p.cfg.Data), audit.Anchor{})
	if err != nil || len(r.Problems) > 0 {
		p.t.Errorf("%v, %v", r.Problems, err)
	}
	text, err := os.ReadFile(auditFile(p.cfg.Data))
	if err != nil {
		p.t.Fatal(err)
	}
	seen := map[string]audit.Event{}
	for line := range strings.Lines(string(text)) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			p.t.Fatal(err)
		}
		seen[e.Kind+" "+e.Decision] = e
	}
	issued, renewed := seen["certificate.issued allowed"], seen["certificate.renewed allowed"]
	if issued.Subject != "backend.demo" || issued.Issuer != issuer || len(issued.SPKI) != 64 || issued.Serial == renewed.Serial || renewed.Serial == "" || time.Until(renewed.NotAfter) < 6*24*time.Hour {
		p.t.Errorf("issued %+v, renewed %+v", issued, renewed)
	}
	for kind, subject := range map[string]string{
		"node.enrolled allowed": "demo/backend/t1", "instance.registered allowed": "backend.demo web",
		"admin.call allowed": "service=backend.demo", "admin.call denied": "service=backend.demo", "log.opened ": "",
	} {
		e, ok := seen[kind]
		if !ok || e.Subject != subject {
			p.t.Errorf("%s: %+v; there are %v", kind, e, seen)
		}
	}
	if e := seen["node.enrolled allowed"]; e.Peer != "127.0.0.1" || e.Actor != "demo/backend/t1" {
		p.t.Errorf("%+v", e)
	}
	if strings.Contains(string(text), "PRIVATE KEY") || strings.Contains(string(text), "Bearer") {
		p.t.Error("the audit log holds what it must not")
	}
}

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/pires/go-proxyproto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
	"patchbay/audit"
	"patchbay/config"
	"patchbay/identity/join"
	"patchbay/internal/awsfake/ecs"
	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/secrets"
	"patchbay/internal/awsfake/sts"
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
	}}, ca.API(), secrets.New(secrets.Options{Keys: []secrets.Key{{ARN: backendKey, Alias: "alias/backend"}}}).API())
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
		ClientAliases: []*agentapi.ClientAlias{{DnsName: "backend.demo", Port: 8080}}, Tls: &agentapi.Tls{Issuer: arn, KmsKey: "alias/backend"},
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
	resp, err := http.Post("http://"+p.cfg.Admin.Listen+"/api/v1/rotate?service=backend.demo", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token: %s", resp.Status)
	}
	if n := ca.Issued(arn); n != 2 {
		t.Errorf("%d certificates for an issue and a rotation", n)
	}
	cloud.Grant("operator", wire.Principal{Secret: "o", Account: cloud.Account()})
	sdk := secretsmanager.New(secretsmanager.Options{Region: "us-east-1", BaseEndpoint: &h.URL, Credentials: credentials.NewStaticCredentialsProvider("operator", "o", "")})
	if d, err := sdk.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String("ecs-sc/" + testDomain + "/leaf/demo/backend")}); err != nil || aws.ToString(d.KmsKeyId) != "alias/backend" {
		t.Errorf("the certificate does not rest under the key that was declared: %+v, %v", d, err)
	}
	for _, c := range cloud.Calls() {
		if c.Error == "AccessDeniedException" {
			t.Errorf("the documented policies don't allow %s on %s", c.Action(), c.Resource)
		}
	}
	p.audited(arn)
}

// backendKey is the KMS key of a service.
const backendKey = "arn:aws:kms:us-east-1:111122223333:key/2"

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
		policy = strings.NewReplacer("CA-ARN", arn, "KMS-KEY-ARN", backendKey, "REGION", "us-east-1", "ACCOUNT", "111122223333", "TRUSTDOMAIN", testDomain).Replace(policy)
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
	r, err := audit.Verify(audit.File(p.cfg.Data), audit.Anchor{})
	if err != nil || len(r.Problems) > 0 {
		p.t.Errorf("%v, %v", r.Problems, err)
	}
	text, err := os.ReadFile(audit.File(p.cfg.Data))
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

// roleCloud is AWS with one running task of the service backend, whose address
// is this machine's.
func roleCloud(t *testing.T) (*wire.Server, *ecs.ECS, string) {
	t.Helper()
	e := ecs.New()
	s := wire.New(wire.Options{Principals: map[string]wire.Principal{"role": {Secret: "secret", ARN: "arn:aws:sts::111122223333:assumed-role/patchbay/1"}}}, sts.API(), e.API())
	s.Grant("ASIATASK", wire.Principal{Secret: "task", Token: "session", Account: "111122223333", ARN: "arn:aws:sts::111122223333:assumed-role/backend/" + ecsTask})
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	e.Define("td", "arn:aws:iam::111122223333:role/backend")
	e.Put(ecs.Task{ID: ecsTask, Cluster: "prod", Service: "backend", Address: "127.0.0.1", Definition: "td"})
	return s, e, h.URL
}

const ecsTask = "0123456789abcdef0123456789abcdef"

// joinByRole makes a join directory without a key; kind is the flag.
func (p *plane) joinByRole(kind string) string {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), "join")
	root := newRoot()
	root.SetArgs([]string{"token", "join", "--data", p.cfg.Data, "--trust-domain", testDomain, kind, "--namespace", "demo", "--workload", "backend", "--discovery-name", "backend", "--out", dir})
	root.SetOut(io.Discard)
	if err := root.ExecuteContext(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	return dir
}

// member is the agent's half of a task that has no join key.
func (p *plane) member(url string) *join.Member {
	t := p.t
	t.Helper()
	dir := p.joinByRole("--task-role")
	for name, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "ASIATASK", "AWS_SECRET_ACCESS_KEY": "task", "AWS_SESSION_TOKEN": "session", "AWS_ENDPOINT_URL_STS": url,
	} {
		t.Setenv(name, v)
	}
	return join.New(join.Config{Dir: dir, Control: join.NewAddresses(p.cfg.Agent.Listen), Task: ecsTask, State: filepath.Join(t.TempDir(), "state"), Log: slog.New(slog.DiscardHandler)})
}

func withRoles(url string) func(*config.Config) {
	return func(c *config.Config) {
		c.Identities.TaskRoles = &config.TaskRoles{STSEndpoint: url, ECSEndpoint: url, Workloads: []config.TaskRole{{
			Namespace: "demo", Workload: "backend", DiscoveryNames: []string{"backend"}, Role: "arn:aws:iam::111122223333:role/backend", Cluster: "prod",
		}}}
	}
}

// TestJoinByTaskRole has a task without any secret of ours get the same node
// certificate as one with a join key, until ECS says that it is gone.
func TestJoinByTaskRole(t *testing.T) {
	_, e, url := roleCloud(t)
	for name, v := range map[string]string{"AWS_ACCESS_KEY_ID": "role", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, v)
	}
	p := startPlane(t, withRoles(url))
	m := p.member(url)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if err := m.Join(ctx); err != nil {
		t.Fatal(err)
	}
	if n := m.Node(); n.ID() != "demo/backend/"+ecsTask || len(n.Workload.DiscoveryNames) != 1 {
		t.Errorf("node %v", n)
	}
	conn, err := grpc.NewClient(p.cfg.Agent.Listen, grpc.WithTransportCredentials(m.Credentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	renew := func() error {
		_, err := agentapi.NewEnrolmentClient(conn).Renew(ctx, &agentapi.RenewRequest{CsrDer: csr})
		return err
	}
	if err := renew(); err != nil {
		t.Errorf("renewal of a running task: %v", err)
	}
	e.Put(ecs.Task{ID: ecsTask, Cluster: "prod", Service: "backend", Address: "127.0.0.1", Definition: "td", LastStatus: "STOPPED"})
	if err := renew(); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "is STOPPED") {
		t.Errorf("renewal of a stopped task: %v", err)
	}
	text, err := os.ReadFile(audit.File(p.cfg.Data))
	if err != nil || !strings.Contains(string(text), `"kind":"node.enrolled"`) || !strings.Contains(string(text), `"method":"iam"`) {
		t.Errorf("audit log: %v\n%s", err, text)
	}
}

// TestProxyProtocol has a load balancer pass a task on: its own address is
// what counts, and only from the balancer's network.
func TestProxyProtocol(t *testing.T) {
	_, e, url := roleCloud(t)
	e.Put(ecs.Task{ID: ecsTask, Cluster: "prod", Service: "backend", Address: "10.0.1.17", Definition: "td"})
	for name, v := range map[string]string{"AWS_ACCESS_KEY_ID": "role", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, v)
	}
	for trusted, wants := range map[string]string{"127.0.0.0/8": "", "10.9.0.0/16": "error"} {
		p := startPlane(t, withRoles(url), func(c *config.Config) { c.Agent.ProxyProtocol = []string{trusted} })
		balancer := balance(t, p.cfg.Agent.Listen, "10.0.1.17")
		p.cfg.Agent.Listen = balancer
		m := p.member(url)
		t.Setenv("AWS_ACCESS_KEY_ID", "ASIATASK")
		limit := 20 * time.Second
		if wants != "" {
			limit = 2 * time.Second
		}
		ctx, stop := context.WithTimeout(t.Context(), limit)
		if err := m.Join(ctx); (err == nil) != (wants == "") {
			t.Errorf("balancer trusted by %s: %v", trusted, err)
		}
		stop()
		for name, v := range map[string]string{"AWS_ACCESS_KEY_ID": "role", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": ""} {
			t.Setenv(name, v)
		}
	}
}

// balance is a load balancer that says a client's address by PROXY protocol
// v2.
func balance(t *testing.T, to, client string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			h := &proxyproto.Header{
				Version: 2, Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4,
				SourceAddr: &net.TCPAddr{IP: net.ParseIP(client), Port: 40000}, DestinationAddr: out.RemoteAddr(),
			}
			h.WriteTo(out) //nolint:errcheck // the copy below finds out
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
	return l.Addr().String()
}

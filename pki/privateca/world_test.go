package privateca_test

import (
	"crypto/x509"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/wire"
	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/privateca"
)

var backend = mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}

func request() issue.Request {
	return issue.NewRequest("mesh.test", &mesh.Service{Name: backend, Aliases: []mesh.Alias{{DNSName: "backend", Port: 80}, {DNSName: "backend.prod", Port: 80}}})
}

// world is AWS with one CA, reached over HTTP by the unmodified SDK.
type world struct {
	t   *testing.T
	pca *pca.PCA
	aws *wire.Server
	url string
	arn string
	log *logs
}

func newWorld(t *testing.T, o pca.Options, w wire.Options, spec pca.Spec) *world {
	t.Helper()
	p := pca.New(o)
	s := wire.New(w, p.API())
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return &world{t, p, s, h.URL, makeCA(t, p, spec), &logs{}}
}

func makeCA(t testing.TB, p *pca.PCA, spec pca.Spec) string {
	t.Helper()
	arn, err := p.Make(spec)
	if err != nil {
		t.Fatal(err)
	}
	return arn
}

func (w *world) ca(change func(*privateca.Options)) *privateca.CA {
	w.t.Helper()
	o := privateca.Options{ARN: w.arn, Endpoint: w.url, Log: slog.New(slog.NewTextHandler(w.log, nil))}
	if change != nil {
		change(&o)
	}
	c, err := privateca.New(aws.Config{Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("patchbay", "secret", "")}, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) issue(c *privateca.CA, r issue.Request) *mesh.Leaf {
	w.t.Helper()
	leaf, err := c.Issue(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return leaf
}

func (w *world) roots(c *privateca.CA) []byte {
	w.t.Helper()
	roots, err := c.Roots(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return roots
}

func parse(t *testing.T, text []byte) []*x509.Certificate {
	t.Helper()
	certs, err := issue.ParseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"patchbay/controlplane"
	"patchbay/identity/join"
	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta/wire"
)

// sameAdminPage holds docs/reference/admin.md against what the interface says
// that it has, both ways.
func (p *plane) sameAdminPage() {
	p.t.Helper()
	page, err := os.ReadFile("../../docs/reference/admin.md")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, method := range []string{"GET", "POST"} {
		var listed []string
		for _, m := range regexp.MustCompile("(?m)^\\| `"+method+" /api/v1/([a-z]+)`").FindAllStringSubmatch(string(page), -1) {
			listed = append(listed, m[1])
		}
		slices.Sort(listed)
		if has := p.has(method); !slices.Equal(listed, has) {
			p.t.Errorf("%s: the page lists %v, the interface has %v", method, listed, has)
		}
	}
	for _, part := range p.has(http.MethodGet) {
		status, body := p.ask("/api/v1/" + part)
		if status == http.StatusBadRequest { // a question that needs a parameter
			continue
		}
		if status != http.StatusOK || !json.Valid(body) || regexp.MustCompile(`"[A-Z][a-z][A-Za-z]*":`).Match(body) || strings.Contains(string(body), "null") {
			p.t.Errorf("%s answers %d, or in another form than the rest:\n%s", part, status, body)
		}
	}
}

// has lists what the interface names when it is asked for what it lacks.
func (p *plane) has(method string) []string {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.cfg.Admin.Listen+"/api/v1/nothing", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	token, err := controlplane.AdminToken(p.cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusNotFound {
		p.t.Fatalf("%s: %s %v", method, resp.Status, err)
	}
	_, all, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(string(body)), "\"\n}"), "has: ")
	names := strings.Split(all, ", ")
	slices.Sort(names)
	return names
}

// TestAdminPage needs a mesh with something to show.
func TestAdminPage(t *testing.T) {
	p := startPlane(t)
	p.offerTLS()
	p.nack(p.sameAdminPage)
}

// nack is an Envoy that rejects its first clusters and, after meanwhile, goes
// away.
func (p *plane) nack(meanwhile ...func()) {
	t := p.t
	k, _ := p.join("frontend")
	cert, err := tls.LoadX509KeyPair(filepath.Join(k.dir, bootstrap.CertFile), filepath.Join(k.dir, bootstrap.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(k.dir, bootstrap.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	conn, err := grpc.NewClient(p.cfg.XDS.Listen, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: roots, ServerName: join.ServerName(testDomain), MinVersion: tls.VersionTLS13,
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	meta, err := bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind}.Struct()
	if err != nil {
		t.Fatal(err)
	}
	r := &discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: k.id, Cluster: k.id[:strings.LastIndexByte(k.id, '/')], Metadata: meta}, TypeUrl: wire.ClusterType, ResourceNamesSubscribe: []string{"*"},
	}
	for range 2 {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
		if r.ErrorDetail != nil {
			break
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		r = &discoveryv3.DeltaDiscoveryRequest{TypeUrl: wire.ClusterType, ResponseNonce: answer.GetNonce(), ErrorDetail: &status.Status{Code: 3, Message: "no"}}
	}
	envoytest.Eventually(t, 10*time.Second, func() error {
		if value(p.metrics()["patchbay_xds_nacks_total"], nil) != 1 {
			return fmt.Errorf("the NACK is not counted")
		}
		return nil
	})
	for _, f := range meanwhile {
		f()
	}
}

package privateca_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/wire"
	"patchbay/internal/envoytest"
	"patchbay/mesh"
)

// issued is a leaf of one kind of CA, and what its callers trust.
type issued struct {
	name  string
	leaf  *mesh.Leaf
	roots []byte
}

// everyKind issues from CAs of every key that Envoy can verify, as a root and
// below one. EC_secp384r1 with SHA512WITHECDSA has no TLS 1.3 name as a pair,
// and is what the usual walkthrough uses.
func everyKind(t *testing.T) []issued {
	var all []issued
	for _, k := range [][2]string{
		{"EC_prime256v1", "SHA256WITHECDSA"}, {"EC_secp384r1", "SHA384WITHECDSA"}, {"EC_secp384r1", "SHA512WITHECDSA"},
		{"RSA_2048", "SHA256WITHRSA"}, {"RSA_4096", "SHA512WITHRSA"},
	} {
		w := newWorld(t, pca.Options{}, wire.Options{}, pca.Spec{KeyAlgorithm: k[0], SigningAlgorithm: k[1]})
		root := w.arn
		for _, place := range []string{"root", "subordinate"} {
			if place == "subordinate" {
				w.arn = makeCA(t, w.pca, pca.Spec{KeyAlgorithm: k[0], SigningAlgorithm: k[1], Parent: root, ShortLived: true})
			}
			c := w.ca(nil)
			all = append(all, issued{k[0] + " " + k[1] + " " + place, w.issue(c, request()), w.roots(c)})
		}
	}
	return all
}

func TestGoAndOpenSSLVerify(t *testing.T) {
	for i, x := range everyKind(t) {
		t.Run(x.name, func(t *testing.T) {
			chain, roots := parse(t, x.leaf.ChainPEM), parse(t, x.roots)
			if len(chain) != 1+i%2 || len(roots) != 1 {
				t.Errorf("%d certificates in the chain, %d roots; want the leaf and what is between it and the one root", len(chain), len(roots))
			}
			for _, c := range chain {
				if bytes.Equal(c.RawIssuer, c.RawSubject) {
					t.Errorf("the chain holds the root %s", c.Subject)
				}
			}
			pool, between := x509.NewCertPool(), x509.NewCertPool()
			pool.AddCert(roots[0])
			for _, c := range chain[1:] {
				between.AddCert(c)
			}
			if _, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, DNSName: "backend.prod"}); err != nil {
				t.Error(err)
			}
			dir := t.TempDir()
			for name, text := range map[string][]byte{"root.pem": x.roots, "chain.pem": x.leaf.ChainPEM} {
				if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "backend.prod", "-CAfile", "root.pem", "-untrusted", "chain.pem", "chain.pem")
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("openssl: %v\n%s", err, out)
			}
		})
	}
}

// Envoy is both ends of a TLS 1.3 handshake with each leaf, and refuses each
// of them to a caller who trusts another CA's root.
func TestEnvoyVerifies(t *testing.T) {
	all := everyKind(t)
	dir, err := os.MkdirTemp("", "pca") // short: socket paths have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	admin := filepath.Join(dir, "admin")
	e := envoytest.Start(t, bootstrap(t, dir, admin, all), admin, "")
	e.Ready(t)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "egress"))
	}}}
	get := func(cluster string) (int, string) {
		resp, err := client.Get("http://envoy/" + cluster)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	for i, x := range all {
		if status, body := get(fmt.Sprintf("right%d", i)); status != 200 {
			t.Errorf("%s: %d %s", x.name, status, body)
		}
		if status, body := get(fmt.Sprintf("wrong%d", i)); status != 503 {
			t.Errorf("%s, trusted by who should not: %d %s", x.name, status, body)
		}
	}
}

type object = map[string]any

func list(v ...any) []any { return v }

func bootstrap(t *testing.T, dir, admin string, all []issued) []byte {
	t.Helper()
	pipe := func(name string) object { return object{"pipe": object{"path": filepath.Join(dir, name)}} }
	var listeners, clusters, routes []any
	params := object{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
	for i, x := range all {
		ingress := fmt.Sprintf("in%d", i)
		listeners = append(listeners, object{"name": ingress, "address": pipe(ingress), "filter_chains": list(object{
			"filters": list(router(object{"name": "r", "virtual_hosts": list(object{"name": "v", "domains": list("*"), "routes": list(object{
				"match": object{"prefix": "/"}, "direct_response": object{"status": 200},
			})})})),
			"transport_socket": tls("DownstreamTlsContext", object{"common_tls_context": object{"tls_params": params, "tls_certificates": list(object{
				"certificate_chain": object{"inline_string": string(x.leaf.ChainPEM)}, "private_key": object{"inline_string": string(x.leaf.KeyPEM)},
			})}}),
		})})
		for kind, trusted := range map[string][]byte{"right": x.roots, "wrong": all[(i+2)%len(all)].roots} {
			name := fmt.Sprintf("%s%d", kind, i)
			routes = append(routes, object{"match": object{"path": "/" + name}, "route": object{"cluster": name}})
			clusters = append(clusters, object{
				"name": name, "connect_timeout": "5s", "load_assignment": object{"cluster_name": name, "endpoints": list(object{"lb_endpoints": list(object{"endpoint": object{"address": pipe(ingress)}})})},
				"transport_socket": tls("UpstreamTlsContext", object{"sni": "backend.prod", "common_tls_context": object{"tls_params": params, "validation_context": object{
					"trusted_ca":                    object{"inline_string": string(trusted)},
					"match_typed_subject_alt_names": list(object{"san_type": "DNS", "matcher": object{"exact": "backend.prod"}}),
				}}}),
			})
		}
	}
	listeners = append(listeners, object{"name": "egress", "address": pipe("egress"), "filter_chains": list(object{"filters": list(router(object{
		"name": "r", "virtual_hosts": list(object{"name": "v", "domains": list("*"), "routes": routes}),
	}))})})
	b, err := json.Marshal(object{
		"admin":            object{"address": object{"pipe": object{"path": admin}}},
		"static_resources": object{"listeners": listeners, "clusters": clusters},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tls(kind string, v object) object {
	v["@type"] = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3." + kind
	return object{"name": "envoy.transport_sockets.tls", "typed_config": v}
}

// router is the HTTP connection manager.
func router(routes object) object {
	return object{"name": "http", "typed_config": object{
		"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "h", "route_config": routes,
		"http_filters": list(object{"name": "router", "typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}),
	}}
}

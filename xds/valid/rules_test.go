package valid

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/internal/testca"
	"patchbay/xds/delta"
	"patchbay/xds/translate"
)

func socket(ip string, port uint32) *corev3.SocketAddress {
	return &corev3.SocketAddress{Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}
}

func member(s *corev3.SocketAddress) *endpointv3.LbEndpoint {
	return &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: s}}}}}
}

// What ends Envoy's process in LEDS, and what is rejected in EDS, never leaves.
func TestOnlyAddressesLeave(t *testing.T) {
	named := socket("10.0.0.1", 0)
	named.PortSpecifier = &corev3.SocketAddress_NamedPort{NamedPort: "http"}
	resolved := socket("10.0.0.1", 80)
	resolved.ResolverName = "r"
	udp := socket("10.0.0.1", 80)
	udp.Protocol = corev3.SocketAddress_UDP
	bad := map[string]*endpointv3.LbEndpoint{
		"nothing": {}, "no address": {HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{}}},
		"a name":     {HostIdentifier: &endpointv3.LbEndpoint_EndpointName{EndpointName: "e"}},
		"named port": member(named), "resolver": member(resolved), "udp": member(udp),
		"weight 0": member(socket("10.0.0.1", 80)), "more addresses": member(socket("10.0.0.1", 80)), "health check": member(socket("10.0.0.1", 80)),
		"pipe": {HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/x"}}}}}},
	}
	bad["weight 0"].LoadBalancingWeight = wrapperspb.UInt32(0)
	bad["more addresses"].GetEndpoint().AdditionalAddresses = []*endpointv3.Endpoint_AdditionalAddress{{Address: bad["pipe"].GetEndpoint().Address}}
	bad["health check"].GetEndpoint().HealthCheckConfig = &endpointv3.Endpoint_HealthCheckConfig{PortValue: 1}
	for _, ip := range []string{"", "notanip", "host.name", "10.0.0.1 ", "0127.0.0.1", "1.2.3", "[::1]", "fe80::1%eth0", "::ffff:10.0.0.1%1", "2001:DB8::1"} {
		bad[ip] = member(socket(ip, 80))
	}
	for what, e := range bad {
		if err := endpointRules(e); err == nil {
			t.Errorf("%s: %v may leave", what, e)
		}
	}
	for _, port := range []uint32{0, 65536} {
		if err := endpointRules(member(socket("10.0.0.1", port))); err == nil {
			t.Errorf("port %d may leave", port)
		}
	}
	for _, ip := range []string{"10.0.0.1", "2001:db8::1", "127.0.0.1"} {
		if err := endpointRules(member(socket(ip, 80))); err != nil {
			t.Errorf("%s: %v", ip, err)
		}
	}
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: "a", Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{member(socket("10.0.0.1", 80)), bad["a name"]}}}}
	if err := Check(translate.Resource{TypeURL: delta.EndpointType, Name: "a", Message: cla}); err == nil || !strings.Contains(err.Error(), "Endpoints[0].LbEndpoints[1].Endpoint") {
		t.Errorf("the field is not named: %v", err)
	}
}

func TestEgressIsOnLoopback(t *testing.T) {
	l := &listenerv3.Listener{Name: "egress", Address: member(socket("0.0.0.0", 80)).GetEndpoint().Address, TrafficDirection: corev3.TrafficDirection_OUTBOUND}
	if err := listenerRules(l); err == nil {
		t.Error("an egress listener is open to other tasks")
	}
	l.TrafficDirection = corev3.TrafficDirection_INBOUND
	if err := listenerRules(l); err != nil {
		t.Error(err)
	}
}

func TestSecretsThatNobodyCouldUse(t *testing.T) {
	ca := testca.New(t)
	chain, key := ca.Issue(t, "api.prod")
	_, other := ca.Issue(t, "api.prod")
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"api.prod"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p521.Public(), p521)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(p521)
	if err != nil {
		t.Fatal(err)
	}
	large := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	largeKey := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	inline := func(b []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
	}
	for _, c := range []struct {
		what       string
		chain, key []byte
		ok         bool
	}{{"a pair", chain, key, true}, {"another key", chain, other, false}, {"no key", chain, nil, false}, {"P-521", large, largeKey, false}} {
		s := &tlsv3.Secret{Name: "leaf", Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(c.chain), PrivateKey: inline(c.key)}}}
		if err := secretRules(s); (err == nil) != c.ok || err != nil && slices.ContainsFunc(strings.Fields(string(c.key)), func(w string) bool { return len(w) > 20 && strings.Contains(err.Error(), w) }) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	trust := func(b []byte) *tlsv3.Secret {
		return &tlsv3.Secret{Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(b)}}}
	}
	if secretRules(trust(ca.RootPEM)) != nil || secretRules(trust([]byte("nothing"))) == nil {
		t.Error("trust is not checked")
	}
}

// FuzzAddress holds our rule against Go's parser: whatever may leave is one
// address in one form.
func FuzzAddress(f *testing.F) {
	for _, ip := range []string{"10.0.0.1", "::1", "fe80::1%0", "1.2.3", "0x1.1.1.1"} {
		f.Add(ip, uint32(80))
	}
	f.Fuzz(func(t *testing.T, ip string, port uint32) {
		if endpointRules(member(socket(ip, port))) != nil {
			return
		}
		for _, c := range ip {
			if !strings.ContainsRune("0123456789abcdef.:", c) {
				t.Fatalf("%q may leave", ip)
			}
		}
		if port == 0 || port > 65535 {
			t.Fatalf("port %d may leave", port)
		}
	})
}

package content

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"patchbay/xds/delta/wire"
)

const canary = "CANARY-KEY"

func source(s string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: []byte(s)}}
}

// TestSecretsAreRedacted: keys, passwords and ticket keys, at any depth; what
// is public stays.
func TestSecretsAreRedacted(t *testing.T) {
	leaf := &tlsv3.TlsCertificate{CertificateChain: source("PUBLIC"), PrivateKey: source(canary), Password: source(canary)}
	secret := &tlsv3.Secret{Name: "leaf/backend.demo", Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: leaf}}
	socket, err := anypb.New(&tlsv3.DownstreamTlsContext{
		CommonTlsContext:      &tlsv3.CommonTlsContext{TlsCertificates: []*tlsv3.TlsCertificate{leaf}},
		SessionTicketKeysType: &tlsv3.DownstreamTlsContext_SessionTicketKeys{SessionTicketKeys: &tlsv3.TlsSessionTicketKeys{Keys: []*corev3.DataSource{source(canary)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	listener := &listenerv3.Listener{Name: "in", FilterChains: []*listenerv3.FilterChain{{TransportSocket: &corev3.TransportSocket{
		Name: "tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: socket},
	}}}}
	for _, e := range []*wire.Entry{entry(t, wire.SecretType, secret.Name, secret), entry(t, wire.ListenerType, "in", listener)} {
		m, err := Of(e)
		if err != nil {
			t.Fatal(err)
		}
		b, err := JSON(m)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if strings.Contains(text, "Q0FOQVJZ") || strings.Contains(text, canary) {
			t.Errorf("a secret is shown: %s", text)
		}
		if !strings.Contains(text, "UFVCTElD") || !strings.Contains(text, "W3JlZGFjdGVkXQ==") {
			t.Errorf("the chain, or that something was redacted, is not shown: %s", text)
		}
	}
	if _, err := Of(wire.Claimed("x", 7)); err == nil {
		t.Error("an entry without content has one")
	}
}

// TestWhatCannotBeLookedInto is emptied, not passed on.
func TestWhatCannotBeLookedInto(t *testing.T) {
	a := &anypb.Any{TypeUrl: "type.googleapis.com/nobody.knows.This", Value: []byte(canary)}
	if Redact(a); len(a.Value) != 0 {
		t.Errorf("%q", a.Value)
	}
}

func entry(t *testing.T, typeURL, name string, m proto.Message) *wire.Entry {
	t.Helper()
	e, err := wire.NewEntry(typeURL, name, "test", m)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

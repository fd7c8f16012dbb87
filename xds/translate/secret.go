package translate

import (
	"bytes"
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"patchbay/mesh"
)

// leafSecret holds a private key: it belongs in a node's private set only.
func leafSecret(l *mesh.Leaf) Resource {
	return keySecret(LeafSecret(l.Service), l)
}

// identitySecret too: it is what the node shows to those that it calls.
func identitySecret(l *mesh.Leaf) Resource { return keySecret(IdentitySecret, l) }

func keySecret(name string, l *mesh.Leaf) Resource {
	return Resource{SecretType, name, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(l.ChainPEM), PrivateKey: inline(l.KeyPEM)},
	}}}
}

// trustSecrets are the bundle of each issuer, and all of them in one.
func trustSecrets(bundles map[string]*mesh.Bundle) []Resource {
	var out []Resource
	var all []byte
	for _, issuer := range slices.Sorted(maps.Keys(bundles)) {
		roots := bundles[issuer].RootsPEM
		out = append(out, trustSecret(BundleSecret(issuer), roots))
		all = append(bytes.TrimRight(all, "\n"), '\n')
		all = append(all, roots...)
	}
	if out == nil {
		return nil
	}
	return append(out, trustSecret(anyBundle, bytes.TrimLeft(all, "\n")))
}

func trustSecret(name string, roots []byte) Resource {
	return Resource{SecretType, name, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{
		ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(roots)},
	}}}
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

package translate

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"patchbay/mesh"
)

// leafSecret holds a private key: it belongs in a node's private set only.
func leafSecret(l *mesh.Leaf) Resource {
	name := LeafSecret(l.Service)
	return Resource{SecretType, name, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(l.ChainPEM), PrivateKey: inline(l.KeyPEM)},
	}}}
}

func bundleSecret(b *mesh.Bundle) Resource {
	name := BundleSecret(b.Issuer)
	return Resource{SecretType, name, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{
		ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(b.RootsPEM)},
	}}}
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

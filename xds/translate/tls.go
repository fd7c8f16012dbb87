package translate

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/transition"
	"patchbay/xds/translate/extension"
)

// anyBundle is the trust in every issuer of the mesh. It is for endpoints that
// speak TLS although their service's settings say plain (again), so that the
// issuer is not known.
const anyBundle = "bundles"

// LeafSecret and BundleSecret name SDS secrets. A name never changes, so that
// a rotation swaps the content alone.
func LeafSecret(s mesh.ServiceName) string { return bootstrap.LeafSecrets + s.String() }

// BundleSecret names the trust of an issuer.
func BundleSecret(issuer string) string { return "bundle/" + issuer }

// onlyTLS13 is needed on both sides: Envoy as a client stops at 1.2 by default.
func onlyTLS13() *tlsv3.TlsParameters {
	return &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
	}
}

func sds(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: ads()}
}

// upstreamTLS always verifies: a chain to the issuer's bundle, and the
// service's DNS name as a SAN. (The DNS name, not the SPIFFE URI: it is the
// one that certificates of every issuer carry, those that ECS made included.)
func upstreamTLS(s *mesh.Service) *corev3.TransportSocket {
	trust := anyBundle
	if s.TLS != nil && s.TLS.Issuer != "" {
		trust = BundleSecret(s.TLS.Issuer)
	}
	name := s.Name.String()
	combined := &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
		DefaultValidationContext: &tlsv3.CertificateValidationContext{
			MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
				SanType: tlsv3.SubjectAltNameMatcher_DNS,
				Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}},
			}},
		},
		ValidationContextSdsSecretConfig: sds(trust),
	}
	common := &tlsv3.CommonTlsContext{
		TlsParams:                      onlyTLS13(),
		TlsCertificateSdsSecretConfigs: presents(s),
		ValidationContextType:          &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: combined},
	}
	if s.Protocol.L7() {
		common.AlpnProtocols = []string{"h2"}
	}
	return tlsSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: name, MaxSessionKeys: wrapperspb.UInt32(sessionKeys)})
}

// downstreamTLS is the ingress's: server authentication, as in ECS, unless the
// service asks for its callers' certificates.
func downstreamTLS(in mesh.Ingress, id Identity) *corev3.TransportSocket {
	common := &tlsv3.CommonTlsContext{
		TlsParams:                      onlyTLS13(),
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{sds(LeafSecret(in.Service))},
	}
	if in.Protocol.L7() {
		common.AlpnProtocols = []string{"h2", "http/1.1"}
	}
	required := id.asks(in, common)
	return tlsSocket(&tlsv3.DownstreamTlsContext{CommonTlsContext: common, RequireClientCertificate: wrapperspb.Bool(required)})
}

func tlsSocket(m proto.Message) *corev3.TransportSocket {
	return socket("envoy.transport_sockets.tls", m)
}

func plainSocket() *corev3.TransportSocket {
	return socket("envoy.transport_sockets.raw_buffer", &rawv3.RawBuffer{})
}

func socket(name string, m proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{Name: name, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: extension.Pack(m)}}
}

// saysPlain is what a plain endpoint of a service that knows TLS says of
// itself, and what its cluster looks for.
func saysPlain() *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{"tls": structpb.NewBoolValue(false)}}
}

func plainMetadata() *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.transport_socket_match": saysPlain()}}
}

// sockets decides between TLS and plain text for each endpoint.
func sockets(c *clusterv3.Cluster, s *mesh.Service) {
	if !transition.KnowsTLS(s) {
		return
	}
	c.TransportSocket = upstreamTLS(s)
	if s.TLS == nil || !s.TLS.Only {
		c.TransportSocketMatches = []*clusterv3.Cluster_TransportSocketMatch{{Name: "plain", Match: saysPlain(), TransportSocket: plainSocket()}}
	}
}

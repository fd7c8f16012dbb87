package translate

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"patchbay/mesh"
	"patchbay/xds/transition"
	"patchbay/xds/translate/authz"
)

// IdentitySecret is the SDS name of a node's certificate as a caller: one name
// for all, with another content for each workload.
const IdentitySecret = "identity"

// Identity is how the callers of a node's services prove who they are, and how
// it does.
type Identity struct {
	TrustDomain string
	Issuer      string     // of the certificates of all workloads
	Leaf        *mesh.Leaf // the node's own; nil: it has none yet
}

// presents is the callers' side: the certificate that they show.
func presents(s *mesh.Service) []*tlsv3.SdsSecretConfig {
	if !transition.Asks(s) {
		return nil
	}
	return []*tlsv3.SdsSecretConfig{sds(IdentitySecret)}
}

// asks is the service's side: which certificates are accepted, in c, and
// whether there must be one. A service's own certificate is none to call with.
func (id Identity) asks(in mesh.Ingress, c *tlsv3.CommonTlsContext) (required bool) {
	if !in.Policy.Asks() {
		return false
	}
	required = in.Policy.RequiresAt(in.PortName)
	names := &tlsv3.CertificateValidationContext{}
	if required { // Envoy takes names for a reason to require a certificate (measured)
		for _, m := range id.names(in) {
			names.MatchTypedSubjectAltNames = append(names.MatchTypedSubjectAltNames, &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: m})
		}
	}
	c.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext: names, ValidationContextSdsSecretConfig: sds(BundleSecret(id.Issuer)),
		},
	}
	return required
}

// names are who may connect at all: every workload; of tcp those that the
// authorization lets in. A connection has no request that could be refused, and
// Envoy's filter for connections waits for the caller's first byte, while the
// server may have spoken (measured).
func (id Identity) names(in mesh.Ingress) []*matcherv3.StringMatcher {
	if inHandshake(in) {
		return authz.Names(authz.Port{Service: in.Service, TrustDomain: id.TrustDomain, Rules: in.Policy.Authorization})
	}
	return []*matcherv3.StringMatcher{{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: mesh.WorkloadsOf(id.TrustDomain, "")}}}
}

// inHandshake reports whether the service's authorization is decided there.
func inHandshake(in mesh.Ingress) bool {
	return in.Protocol == mesh.TCP && in.Policy != nil && in.Policy.Authorization != nil && !in.Policy.Authorization.DryRun
}

// refusals log who is refused in the handshake.
func (id Identity) refusals(in mesh.Ingress) []*accesslogv3.AccessLog {
	if !inHandshake(in) {
		return nil
	}
	return []*accesslogv3.AccessLog{authz.Refusals(authz.Port{Service: in.Service, TrustDomain: id.TrustDomain, Rules: in.Policy.Authorization})}
}

package valid

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"patchbay/xds/translate"
)

// keepsRules checks what Envoy's own validation rules do not say and Envoy
// rejects all the same, or takes and does something else with. An error names
// the field.
func keepsRules(r translate.Resource) error {
	switch m := r.Message.(type) {
	case *clusterv3.Cluster:
		return errors.Join(named("Cluster.Name", m.GetName(), r.Name), clusterRules(m))
	case *endpointv3.ClusterLoadAssignment:
		return errors.Join(named("ClusterLoadAssignment.ClusterName", m.GetClusterName(), r.Name), addressesOf(m, false))
	case *listenerv3.Listener:
		return errors.Join(named("Listener.Name", m.GetName(), r.Name), listenerRules(m))
	case *routev3.RouteConfiguration:
		return named("RouteConfiguration.Name", m.GetName(), r.Name)
	case *tlsv3.Secret:
		return errors.Join(named("Secret.Name", m.GetName(), r.Name), secretRules(m))
	}
	return fmt.Errorf("a %T is not served", r.Message)
}

func named(field, have, want string) error {
	if have != want {
		return fmt.Errorf("%s: %q, but the resource is %q", field, have, want)
	}
	return nil
}

// clusterRules: endpoints come by EDS under the cluster's own name, for two
// clusters on one assignment make Envoy wait for ever.
func clusterRules(c *clusterv3.Cluster) error {
	if c.GetClusterType() != nil {
		return namesOf(c)
	}
	if c.GetType() != clusterv3.Cluster_EDS {
		return addressesOf(c.GetLoadAssignment(), true)
	}
	if c.GetEdsClusterConfig().GetServiceName() != "" {
		return errors.New("Cluster.EdsClusterConfig.ServiceName: must be empty")
	}
	if c.GetEdsClusterConfig().GetEdsConfig().GetAds() == nil {
		return errors.New("Cluster.EdsClusterConfig.EdsConfig: must be ads")
	}
	return nil
}

// namesOf: what Envoy resolves itself has hosts with ports.
func namesOf(c *clusterv3.Cluster) error {
	n := 0
	for _, l := range c.GetLoadAssignment().GetEndpoints() {
		for _, e := range l.GetLbEndpoints() {
			a := e.GetEndpoint().GetAddress().GetSocketAddress()
			if n++; a.GetAddress() == "" || a.GetPortValue() == 0 || a.GetPortValue() > 65535 {
				return errors.New("Cluster.LoadAssignment: each endpoint must be a host and a port")
			}
		}
	}
	if n == 0 {
		return errors.New("Cluster.LoadAssignment: has no endpoint")
	}
	return nil
}

// addressesOf: several is where an endpoint may be tried at more addresses than
// one, which is in a cluster's own assignment alone.
func addressesOf(a *endpointv3.ClusterLoadAssignment, several bool) error {
	for i, l := range a.GetEndpoints() {
		for j, e := range l.GetLbEndpoints() {
			err := endpointRules(e)
			if several && len(e.GetEndpoint().GetAdditionalAddresses()) > 0 {
				err = severalRules(e)
			}
			if err != nil {
				return fmt.Errorf("Endpoints[%d].LbEndpoints[%d].%w", i, j, err)
			}
		}
	}
	return nil
}

// endpointRules: an IP as Envoy prints it and a port, and nothing besides.
// Anything else is a rejection in an assignment, and the end of Envoy's process
// in LEDS.
func endpointRules(e *endpointv3.LbEndpoint) error {
	end := e.GetEndpoint()
	if end == nil || len(end.GetAdditionalAddresses()) > 0 || end.GetHealthCheckConfig() != nil {
		return errors.New("Endpoint: one address and nothing else is allowed")
	}
	if w := e.GetLoadBalancingWeight(); w != nil && w.GetValue() == 0 {
		return errors.New("LoadBalancingWeight: must be at least 1")
	}
	_, err := socketOf("Endpoint.Address", end.GetAddress())
	return err
}

// severalRules: each of an endpoint's addresses is one that it might have alone.
func severalRules(e *endpointv3.LbEndpoint) error {
	first := proto.CloneOf(e)
	first.GetEndpoint().AdditionalAddresses = nil
	errs := []error{endpointRules(first)}
	for _, a := range e.GetEndpoint().GetAdditionalAddresses() {
		_, err := socketOf("Endpoint.AdditionalAddresses", a.GetAddress())
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func socketOf(field string, a *corev3.Address) (netip.AddrPort, error) {
	s := a.GetSocketAddress()
	if s == nil || s.GetResolverName() != "" || s.GetNamedPort() != "" || s.GetProtocol() != corev3.SocketAddress_TCP {
		return netip.AddrPort{}, fmt.Errorf("%s: must be an IP address and a number of a TCP port", field)
	}
	ip, err := netip.ParseAddr(s.GetAddress())
	if err != nil || ip.Zone() != "" || ip.String() != s.GetAddress() {
		return netip.AddrPort{}, fmt.Errorf("%s: must be an IP address in its usual form", field)
	}
	if p := s.GetPortValue(); p == 0 || p > 65535 {
		return netip.AddrPort{}, fmt.Errorf("%s: the port must be 1 to 65535", field)
	}
	return netip.AddrPortFrom(ip, uint16(s.GetPortValue())), nil //nolint:gosec // just checked
}

// listenerRules: what is meant for the task alone must not be open to others.
func listenerRules(l *listenerv3.Listener) error {
	if l.GetApiListener() != nil {
		return nil // gRPC's: nothing is opened
	}
	addr, err := socketOf("Listener.Address", l.GetAddress())
	switch {
	case err != nil:
		return err
	case l.GetTrafficDirection() == corev3.TrafficDirection_UNSPECIFIED:
		return errors.New("Listener.TrafficDirection: must be set")
	case l.GetTrafficDirection() == corev3.TrafficDirection_OUTBOUND && !addr.Addr().IsLoopback():
		return errors.New("Listener.Address: egress must be on loopback")
	}
	return nil
}

// secretRules: a pair that does not fit is rejected, and a P-521 leaf is
// taken but no Envoy can connect to it.
func secretRules(s *tlsv3.Secret) error {
	if v := s.GetValidationContext(); v != nil && !x509.NewCertPool().AppendCertsFromPEM(v.GetTrustedCa().GetInlineBytes()) {
		return errors.New("Secret.ValidationContext.TrustedCa: holds no certificate")
	}
	c := s.GetTlsCertificate()
	if c == nil {
		return nil
	}
	pair, err := tls.X509KeyPair(c.GetCertificateChain().GetInlineBytes(), c.GetPrivateKey().GetInlineBytes())
	if err != nil {
		return errors.New("Secret.TlsCertificate: chain and key do not make a pair") // the error could quote them
	}
	if k, ok := pair.Leaf.PublicKey.(*ecdsa.PublicKey); ok && k.Curve == elliptic.P521() {
		return errors.New("Secret.TlsCertificate: Envoy can't call a P-521 leaf; use P-256")
	}
	return nil
}

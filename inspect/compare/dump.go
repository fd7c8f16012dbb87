package compare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"patchbay/admin/api"
	"patchbay/xds/content"
	"patchbay/xds/delta/wire"
)

// has is a resource that an Envoy has.
type has struct {
	version, state, err string
	message             proto.Message // redacted; nil: none yet
}

type dump map[wire.Ref]has

// read takes the dynamic resources of Envoy's /config_dump?include_eds.
func read(text []byte) (dump, error) {
	var all struct {
		Configs []json.RawMessage `json:"configs"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("Envoy's configuration: %w", err)
	}
	d := dump{}
	for _, raw := range all.Configs {
		if err := d.section(raw); err != nil {
			return nil, fmt.Errorf("Envoy's configuration: %w", err)
		}
	}
	return d, nil
}

// told gives the hosts of a dump the health that the control plane told: the dump
// has Envoy's verdict over all, its own ejections and checks among it, which the
// page of clusters keeps apart.
func (d dump) told(clusters []byte) error {
	var all adminv3.Clusters
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(clusters, &all); err != nil {
		return fmt.Errorf("Envoy's clusters: %w", err)
	}
	for _, c := range all.GetClusterStatuses() {
		name := cmp.Or(c.GetEdsServiceName(), c.GetName())
		a, _ := d[wire.Ref{TypeURL: wire.EndpointType, Name: name}].message.(*endpointv3.ClusterLoadAssignment)
		health := map[string]corev3.HealthStatus{}
		for _, h := range c.GetHostStatuses() {
			health[addressOf(h.GetAddress())] = h.GetHealthStatus().GetEdsHealthStatus()
		}
		for _, l := range a.GetEndpoints() {
			for _, e := range l.GetLbEndpoints() {
				if told, ok := health[addressOf(e.GetEndpoint().GetAddress())]; ok {
					e.HealthStatus = told
				}
			}
		}
	}
	return nil
}

func addressOf(a *corev3.Address) string {
	s := a.GetSocketAddress()
	return net.JoinHostPort(s.GetAddress(), strconv.Itoa(int(s.GetPortValue())))
}

func (d dump) section(raw json.RawMessage) error {
	var head struct {
		Type string `json:"@type"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return err
	}
	var m proto.Message
	switch head.Type[strings.LastIndexByte(head.Type, '.')+1:] {
	case "ClustersConfigDump":
		m = &adminv3.ClustersConfigDump{}
	case "EndpointsConfigDump":
		m = &adminv3.EndpointsConfigDump{}
	case "ListenersConfigDump":
		m = &adminv3.ListenersConfigDump{}
	case "RoutesConfigDump":
		m = &adminv3.RoutesConfigDump{}
	case "SecretsConfigDump":
		m = &adminv3.SecretsConfigDump{}
	default:
		return nil // the bootstrap and the like: not ours
	}
	a := &anypb.Any{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, a); err != nil {
		return err
	}
	if err := a.UnmarshalTo(m); err != nil {
		return err
	}
	return d.take(m)
}

func (d dump) take(m proto.Message) (err error) {
	keep := func(typeURL, name, version, state, why string, a *anypb.Any) {
		h := has{version: version, state: state, err: why}
		if a != nil {
			var e error
			if h.message, e = a.UnmarshalNew(); e != nil {
				err = e
				return
			}
			content.Redact(h.message)
			if n, ok := h.message.(interface{ GetName() string }); ok && name == "" {
				name = n.GetName()
			}
		}
		d[wire.Ref{TypeURL: typeURL, Name: name}] = h
	}
	switch m := m.(type) {
	case *adminv3.ClustersConfigDump:
		for _, c := range m.GetDynamicWarmingClusters() {
			keep(wire.ClusterType, "", c.GetVersionInfo(), api.Warming, "", c.GetCluster())
		}
		for _, c := range m.GetDynamicActiveClusters() {
			keep(wire.ClusterType, "", c.GetVersionInfo(), "", c.GetErrorState().GetDetails(), c.GetCluster())
		}
	case *adminv3.ListenersConfigDump:
		for _, l := range m.GetDynamicListeners() {
			if l.GetName() == "" {
				continue // Envoy keeps a rejection a second time, without its name
			}
			s, state := l.GetActiveState(), ""
			if s == nil {
				s, state = l.GetWarmingState(), api.Warming
			}
			if l.GetErrorState() != nil && s == nil {
				state = api.Broken
			}
			keep(wire.ListenerType, l.GetName(), s.GetVersionInfo(), state, l.GetErrorState().GetDetails(), s.GetListener())
		}
	case *adminv3.RoutesConfigDump:
		for _, r := range m.GetDynamicRouteConfigs() {
			keep(wire.RouteType, "", r.GetVersionInfo(), "", r.GetErrorState().GetDetails(), r.GetRouteConfig())
		}
	case *adminv3.SecretsConfigDump:
		for _, s := range m.GetDynamicWarmingSecrets() {
			keep(wire.SecretType, s.GetName(), s.GetVersionInfo(), api.Warming, s.GetErrorState().GetDetails(), s.GetSecret())
		}
		for _, s := range m.GetDynamicActiveSecrets() {
			keep(wire.SecretType, s.GetName(), s.GetVersionInfo(), "", s.GetErrorState().GetDetails(), s.GetSecret())
		}
	case *adminv3.EndpointsConfigDump:
		for _, e := range m.GetDynamicEndpointConfigs() {
			a := &endpointv3.ClusterLoadAssignment{}
			if err := e.GetEndpointConfig().UnmarshalTo(a); err != nil {
				return err
			}
			keep(wire.EndpointType, a.GetClusterName(), e.GetVersionInfo(), "", "", e.GetEndpointConfig())
		}
	}
	return err
}

// hosts is what counts of an assignment: Envoy shows those that it has made of
// all that it was told, with defaults written out, and collections opened.
type hosts struct {
	Cluster string `json:"cluster_name"`
	Hosts   []host `json:"hosts"` // sorted by address
}

type host struct {
	Address string `json:"address"`
	Zone    string `json:"zone,omitempty"`
	Health  string `json:"health_status"`
	Weight  uint32 `json:"load_balancing_weight"`
	Plain   bool   `json:"plain,omitempty"` // called without TLS though its cluster has it
}

// hostsOf is the assignment as it counts; members are those of collections, by
// collection.
func hostsOf(a *endpointv3.ClusterLoadAssignment, members map[string][]*endpointv3.LbEndpoint) hosts {
	out := hosts{Cluster: a.GetClusterName(), Hosts: []host{}}
	add := func(zone string, e *endpointv3.LbEndpoint) {
		h := host{
			Address: addressOf(e.GetEndpoint().GetAddress()), Zone: zone,
			Health: "HEALTHY", Weight: max(e.GetLoadBalancingWeight().GetValue(), 1),
		}
		switch e.GetHealthStatus() {
		case corev3.HealthStatus_UNHEALTHY, corev3.HealthStatus_DRAINING, corev3.HealthStatus_TIMEOUT:
			h.Health = "UNHEALTHY"
		case corev3.HealthStatus_DEGRADED:
			h.Health = "DEGRADED"
		}
		tls := e.GetMetadata().GetFilterMetadata()["envoy.transport_socket_match"].GetFields()["tls"]
		h.Plain = tls != nil && !tls.GetBoolValue()
		out.Hosts = append(out.Hosts, h)
	}
	for _, l := range a.GetEndpoints() {
		for _, e := range l.GetLbEndpoints() {
			add(l.GetLocality().GetZone(), e)
		}
		for _, e := range members[l.GetLedsClusterLocalityConfig().GetLedsCollectionName()] {
			add(l.GetLocality().GetZone(), e)
		}
	}
	slices.SortFunc(out.Hosts, func(a, b host) int { return strings.Compare(a.Address, b.Address) })
	return out
}

// ours reports whether a resource of a dump comes from the control plane at
// all: the secrets of the control channel come from files.
func ours(r wire.Ref) bool {
	return r.TypeURL != wire.SecretType || r.Name != "node" && r.Name != "control-ca"
}

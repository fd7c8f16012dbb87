// Package model holds model Envoys, and the mesh that they are told of: clients
// of a control plane that subscribe as Envoy does, accept everything and do not
// decode resources, so that their own work does not hide the server's.
//
// It must not know which control plane they talk to. Start reading at
// [Connect], then client.
package model

import (
	"fmt"
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/translate"
	"patchbay/xds/views"
)

// Shape is a size of mesh: every sidecar sees every service.
type Shape struct {
	Streams   int `json:"streams"`
	Services  int `json:"services"`
	Endpoints int `json:"endpoints"` // of each service
}

// String says it in words.
func (s Shape) String() string {
	return fmt.Sprintf("%d sidecars × (%d services × %d endpoints)", s.Streams, s.Services, s.Endpoints)
}

// Namespace is that of all services and sidecars.
const Namespace = "prod"

// view is what all sidecars of the benchmark see.
var view = views.View{Namespace: Namespace, Wiring: mesh.Bind}

// Mesh is all services before any change.
func (s Shape) Mesh() []*mesh.Service {
	all := make([]*mesh.Service, s.Services)
	for i := range all {
		n := fmt.Sprintf("service-%03d", i)
		all[i] = &mesh.Service{
			Name: mesh.ServiceName{Namespace: Namespace, DiscoveryName: n}, Protocol: mesh.HTTP,
			Aliases: []mesh.Alias{{DNSName: n + "." + Namespace, Port: 8080, VIP: netip.AddrFrom4([4]byte{127, 128, byte(1 + i/250), byte(1 + i%250)})}},
		}
		for e := range s.Endpoints {
			addr := netip.AddrFrom4([4]byte{10, byte(i), byte(e / 250), byte(1 + e%250)})
			all[i].Endpoints = append(all[i].Endpoints, mesh.Endpoint{
				InstanceID: addr.String(), Addr: netip.AddrPortFrom(addr, 15000), Zone: "use1-az1", Health: mesh.Healthy, Weight: 1,
			})
		}
	}
	return all
}

// Change makes one endpoint of one service unhealthy, or healthy again. It
// returns the number of the service; no slice or service that was handed out is
// modified.
func Change(all []*mesh.Service, n int) (changed []*mesh.Service, i int) {
	i = n % len(all)
	s := *all[i]
	s.Endpoints = slices.Clone(s.Endpoints)
	e := &s.Endpoints[n/len(all)%len(s.Endpoints)]
	if e.Health++; e.Health > mesh.Unhealthy {
		e.Health = mesh.Healthy
	}
	changed = slices.Clone(all)
	changed[i] = &s
	return changed, i
}

// Node is what an Envoy sends with its first request: as large as that of
// Envoy 1.40, which lists its 516 extensions (about 60 kB).
func Node(i int) *corev3.Node {
	meta, err := bootstrap.NodeMeta{Version: "bench", Wiring: mesh.Bind}.Struct()
	if err != nil {
		panic(err) // a constant
	}
	n := &corev3.Node{
		Id: fmt.Sprintf("%s/web/%d", Namespace, i), Cluster: Namespace + "/web", Metadata: meta,
		Locality: &corev3.Locality{Zone: "use1-az1"}, UserAgentName: "envoy",
		UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: envoyVersion()},
	}
	for k := range 516 {
		n.Extensions = append(n.Extensions, &corev3.Extension{
			Name: fmt.Sprintf("envoy.filters.http.extension_%03d", k), Category: "envoy.filters.http",
			TypeUrls: []string{fmt.Sprintf("envoy.extensions.filters.http.extension_%03d.v3.Config", k)},
		})
	}
	return n
}

// Resources are all shared resources of the services, by type.
func Resources(all []*mesh.Service) map[string]map[string]proto.Message {
	out := map[string]map[string]proto.Message{}
	for _, s := range all {
		for _, r := range translate.Service(view, s) {
			if out[r.TypeURL] == nil {
				out[r.TypeURL] = map[string]proto.Message{}
			}
			out[r.TypeURL][r.Name] = r.Message
		}
	}
	return out
}

// Assignment is the ClusterLoadAssignment of one service.
func Assignment(s *mesh.Service) (string, proto.Message) {
	for _, r := range translate.Service(view, s) {
		if r.TypeURL == translate.EndpointType {
			return r.Name, r.Message
		}
	}
	panic("a service without endpoints' resource")
}

func envoyVersion() *corev3.BuildVersion {
	return &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}}
}

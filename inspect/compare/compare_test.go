package compare

import (
	"fmt"
	"strings"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"patchbay/admin/api"
	"patchbay/xds/delta/wire"
)

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func entry(t *testing.T, typeURL, name string, m proto.Message) *wire.Entry {
	t.Helper()
	e, err := wire.NewEntry(typeURL, name, "test", m)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func cluster(name string, timeout time.Duration) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: name, ConnectTimeout: durationpb.New(timeout)}
}

func leaf(chain, key string) *tlsv3.Secret {
	inline := func(s string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: []byte(s)}}
	}
	return &tlsv3.Secret{Name: "leaf/a.demo", Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(chain), PrivateKey: inline(key)}}}
}

// TestEachKindOfDifference: another content field by field, what is lacking,
// what should not be there, and a key that is not the one; a secret in neither.
func TestEachKindOfDifference(t *testing.T) {
	same, other, lacking := cluster("same.demo", time.Second), cluster("other.demo", 2*time.Second), cluster("lacking.demo", time.Second)
	secret := entry(t, wire.SecretType, "leaf/a.demo", leaf("chain", "CANARY"))
	wanted := []*wire.Entry{
		entry(t, wire.ClusterType, same.Name, same), entry(t, wire.ClusterType, other.Name, other), entry(t, wire.ClusterType, lacking.Name, lacking), secret,
	}
	sections := []proto.Message{
		&adminv3.BootstrapConfigDump{},
		&adminv3.ClustersConfigDump{DynamicActiveClusters: []*adminv3.ClustersConfigDump_DynamicCluster{
			{VersionInfo: wanted[0].Version(), Cluster: packed(t, same)},
			{VersionInfo: "old", Cluster: packed(t, cluster("other.demo", time.Second))},
			{VersionInfo: "x", Cluster: packed(t, cluster("gone.demo", time.Second))},
		}},
		&adminv3.SecretsConfigDump{
			StaticSecrets:        []*adminv3.SecretsConfigDump_StaticSecret{{Name: "static"}},
			DynamicActiveSecrets: []*adminv3.SecretsConfigDump_DynamicSecret{{Name: "node"}, {Name: "leaf/a.demo", VersionInfo: "older", Secret: packed(t, leaf("chain", "CANARY-OLD"))}},
		},
	}
	var texts []string
	for _, m := range sections {
		b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(packed(t, m))
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	compared, different, err := Envoy(wanted, []byte(`{"configs": [`+strings.Join(texts, ",")+`]}`), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range different {
		got = append(got, fmt.Sprint(d.Type, " ", d.Name, " ", d.Kind, " ", d.Has, " ", d.Changes))
	}
	want := []string{
		"cds gone.demo unwanted x []",
		"cds lacking.demo lacking  []",
		"cds other.demo differing old [{replace /connect_timeout 1s 2s}]",
		"sds leaf/a.demo differing older []",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || compared["cds"] != 3 || compared["sds"] != 1 {
		t.Errorf("%v:\n%s\nwant\n%s", compared, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if strings.Contains(fmt.Sprint(different), "CANARY") {
		t.Error("a secret is shown")
	}
	if different[2].Kind != api.Differing {
		t.Errorf("%+v", different[2])
	}
	if _, _, err := Envoy(wanted, []byte("<html>"), []byte("{}")); err == nil {
		t.Error("what is no dump was read")
	}
	if _, _, err := Envoy(wanted, []byte("{}"), []byte("<html>")); err == nil {
		t.Error("what is no list of clusters was read")
	}
}

// TestEnvoysOwnVerdict: the dump shows an ejected host as UNHEALTHY, whatever the
// control plane said of it. Only what the control plane said is compared.
func TestEnvoysOwnVerdict(t *testing.T) {
	assignment := func(health corev3.HealthStatus) *endpointv3.ClusterLoadAssignment {
		address := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "10.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80}}}}
		return &endpointv3.ClusterLoadAssignment{ClusterName: "a.demo", Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HealthStatus: health, HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}},
		}}}}}
	}
	const healthy, unhealthy = corev3.HealthStatus_HEALTHY, corev3.HealthStatus_UNHEALTHY
	for _, c := range []struct {
		name           string
		wanted, dumped corev3.HealthStatus
		status, want   string
	}{
		{"ejected", healthy, unhealthy, `"failed_outlier_check": true, "eds_health_status": "HEALTHY"`, ""},
		{"a failed check", healthy, unhealthy, `"failed_active_health_check": true, "eds_health_status": "HEALTHY"`, ""},
		{"told otherwise", healthy, unhealthy, `"eds_health_status": "UNHEALTHY"`, "{replace /hosts/0/health_status UNHEALTHY HEALTHY}"},
		{"not told yet", unhealthy, healthy, `"eds_health_status": "HEALTHY"`, "{replace /hosts/0/health_status HEALTHY UNHEALTHY}"},
		{"not told yet, and ejected", unhealthy, unhealthy, `"failed_outlier_check": true, "eds_health_status": "HEALTHY"`, "{replace /hosts/0/health_status HEALTHY UNHEALTHY}"},
	} {
		text, err := protojson.Marshal(packed(t, &adminv3.EndpointsConfigDump{DynamicEndpointConfigs: []*adminv3.EndpointsConfigDump_DynamicEndpointConfig{{EndpointConfig: packed(t, assignment(c.dumped))}}}))
		if err != nil {
			t.Fatal(err)
		}
		clusters := `{"cluster_statuses": [{"name": "a.demo", "host_statuses": [{"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}}, "health_status": {` + c.status + `}}]}]}`
		_, different, err := Envoy([]*wire.Entry{entry(t, wire.EndpointType, "a.demo", assignment(c.wanted))}, []byte(`{"configs": [`+string(text)+`]}`), []byte(clusters))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range different {
			for _, change := range d.Changes {
				got = append(got, fmt.Sprint(change))
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %q, want %q", c.name, s, c.want)
		}
	}
}

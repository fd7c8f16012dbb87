package xds

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/sidecar/redirect"
	"patchbay/xds/bootstrap"
	"patchbay/xds/claim"
	"patchbay/xds/delta"
)

const (
	taskSet     = "arn:aws:ecs:eu-west-1:111122223333:task-set/prod-cluster/web/ecs-svc/1234567890123456789"
	egressPort  = 34365
	ingressPort = 39566
)

// socketOf serves a socket of workload prod/web, which offers web.prod.
func (c *control) socketOf(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "web.sock")
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSocketServer(c.pusher, claim.Socket{
		Workload: mesh.Workload{Namespace: "prod", Name: "web", DiscoveryNames: []string{"web"}},
		Ports: []claim.Port{{Port: bootstrap.Port{PortName: "http", DiscoveryName: "web", Protocol: mesh.HTTP, AppPort: 8080}},
			{Port: bootstrap.Port{PortName: "more", DiscoveryName: "web", Protocol: mesh.TCP, AppPort: 8081}, Container: "app"}},
	}, ServerConfig{Log: slog.New(slog.NewTextHandler(c.logged, nil))})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx, lis); !errors.Is(err, context.Canceled) {
			t.Errorf("socket: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return path
}

func awsMetadata(task string) map[string]any {
	return map[string]any{
		"aws.ecs.serviceconnect.ListenerPortMapping": map[string]any{"egress": egressPort, "ingress-http": ingressPort},
		"aws.ecs.serviceconnect.ServiceDiscovery":    map[string]any{"NamespaceName": "prod", "NamespaceArn": "arn:aws:servicediscovery:eu-west-1:111122223333:namespace/ns-abc"},
		"aws.appmesh.platformInfo": map[string]any{"AvailabilityZone": "eu-west-1a", "AvailabilityZoneID": "euw1-az1", "supportedIPFamilies": "IPv4_ONLY",
			"ecsPlatformInfo": map[string]any{"ecsLaunchType": "AWS_ECS_FARGATE", "ecsTaskArn": "arn:aws:ecs:eu-west-1:111122223333:task/prod-cluster/" + task}},
		"aws.appmesh.metric_filter":   map[string]any{"level": "1"},
		"aws.appmesh.task.interfaces": map[string]any{"ipv4": map[string]any{"lo": []any{"127.0.0.1/8"}}},
	}
}

// awsBootstrap is what AWS's agent writes in Service Connect mode.
func awsBootstrap(t *testing.T, socket, admin, task string) []byte {
	t.Helper()
	type m = map[string]any
	arg := func(n int) m { return m{"int_value": n} }
	ads := func(timeout string) m {
		return m{"ads": m{}, "initial_fetch_timeout": timeout, "resource_api_version": "V3"}
	}
	b, err := json.Marshal(m{
		"node": m{"id": taskSet, "cluster": taskSet, "locality": m{"region": "eu-west-1", "zone": "euw1-az1"}, "metadata": awsMetadata(task)},
		"admin": m{"address": m{"pipe": m{"path": admin, "mode": 0o600}}, "access_log": []any{m{"name": "envoy.access_loggers.file",
			"typed_config": m{"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": filepath.Join(t.TempDir(), "admin.log")}}}},
		"dynamic_resources": m{
			"ads_config": m{"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": []any{m{"google_grpc": m{
				"stat_prefix": "ads", "target_uri": "unix://" + socket, "channel_args": m{"args": m{
					"grpc.http2.max_pings_without_data": arg(0), "grpc.keepalive_time_ms": arg(10000), "grpc.keepalive_timeout_ms": arg(20000),
					"grpc.initial_reconnect_backoff_ms": arg(10000), "grpc.max_connection_age_ms": arg(2400000), "grpc.max_connection_age_grace_ms": arg(5000),
				}}}}}},
			"lds_config": ads("0s"), "cds_config": ads("0s"),
		},
		"cluster_manager": m{"local_cluster_name": "local_cluster", "outlier_detection": m{"event_log_path": "/dev/stdout"}},
		"static_resources": m{"clusters": []any{m{"name": "local_cluster", "type": "EDS", "connect_timeout": "1s",
			"eds_cluster_config": m{"service_name": "local_cluster", "eds_config": ads("0.001s")}}}},
		"layered_runtime": m{"layers": []any{
			m{"name": "static_layer_0", "static_layer": m{"envoy.features.enable_all_deprecated_features": true, "re2.max_program_size.error_level": 1000}},
			m{"name": "admin_layer", "admin_layer": m{}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// awsTask is a task as AWS's agents wire it, in a network of its own: its
// application, what it calls, and its Envoy.
type awsTask struct {
	*envoytest.Envoy
	ns string
}

var awsAPI = mesh.Alias{DNSName: "api", VIP: netip.MustParseAddr("127.128.5.5"), Port: 9090}

func startAWSTask(t *testing.T, socket, task string) awsTask {
	t.Helper()
	ns := envoytest.Netns(t)
	var lis [3]net.Listener
	envoytest.In(t, ns, func() (err error) {
		for i, addr := range []string{"127.0.0.1:8080", "127.0.0.1:7001", "127.0.0.1:7002"} {
			if lis[i], err = net.Listen("tcp", addr); err != nil {
				return err
			}
		}
		_, err = redirect.Install(redirect.Rule{VIPs: mesh.LiveVIPs, Port: egressPort})
		return err
	})
	backendOn(t, lis[0], "app of "+task)
	backendOn(t, lis[1], "api of "+task)
	backendOn(t, lis[2], "new api of "+task)
	admin := filepath.Join(t.TempDir(), "admin.sock")
	e := envoytest.Start(t, awsBootstrap(t, socket, admin, task), admin, ns)
	e.Ready(t)
	return awsTask{e, ns}
}

// says is what the task gets from an address of its network.
func (a awsTask) says(t *testing.T, to, want string) func() error {
	return func() error {
		var conn net.Conn
		var dialed error
		envoytest.In(t, a.ns, func() error { conn, dialed = net.Dial("tcp", to); return nil })
		if dialed != nil {
			return dialed
		}
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
			DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
		resp, err := client.Get("http://x/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != want {
			return fmt.Errorf("%s: %q, %v; want %q", resp.Status, b, err, want)
		}
		return nil
	}
}

func inLocalCluster(t *testing.T, e *envoytest.Envoy, host string) func() error {
	return func() error {
		all, err := e.Get("/clusters")
		for _, place := range []string{"region::eu-west-1", "zone::euw1-az1"} { // as the node's own
			if err == nil && !strings.Contains(all, "local_cluster::"+host+"::"+place) {
				err = errors.New("local_cluster lacks " + host + " in " + place)
			}
		}
		return err
	}
}

// Two real Envoys, started as AWS's agent starts those of one task set: each is
// live, calls, and is called.
func TestEnvoysInTheFormOfAWSsAgent(t *testing.T) {
	c := startControl(t, 0)
	socket := c.socketOf(t)
	web := &mesh.Service{Name: name("web"), Protocol: mesh.HTTP, Endpoints: []mesh.Endpoint{{InstanceID: "w", Addr: netip.MustParseAddrPort("10.0.0.7:39566"), Zone: "euw1-az1", Weight: 1}}}
	set := func(idle time.Duration, api string) {
		c.store.SetServices("prod", []*mesh.Service{aliased("api", awsAPI, idle, netip.MustParseAddrPort(api)), web})
	}
	set(time.Minute, "127.0.0.1:7001")
	tasks := map[string]awsTask{}
	for _, task := range []string{"0aaa", "0bbb"} {
		e := startAWSTask(t, socket, task)
		tasks[task] = e
		eventually(t, e.says(t, vip(awsAPI), "api of "+task))
		eventually(t, e.says(t, fmt.Sprintf("127.0.0.1:%d", ingressPort), "app of "+task))
		eventually(t, inLocalCluster(t, e.Envoy, "10.0.0.7:39566"))
	}
	var known []string
	for _, s := range c.cache.Status() {
		known = append(known, s.Node)
	}
	slices.Sort(known)
	if want := []string{"prod/web/0aaa", "prod/web/0bbb"}; !slices.Equal(known, want) {
		t.Errorf("the streams are known as %q; want %q", known, want)
	}
	set(time.Hour, "127.0.0.1:7002") // the cluster and its endpoints
	for task, e := range tasks {
		eventually(t, e.says(t, vip(awsAPI), "new api of "+task))
		if n := e.Stats(t)["cluster_manager.cluster_removed"]; n != 0 {
			t.Errorf("%s removed %v clusters", task, n)
		}
	}
	c.settled(t)
}

// What such an Envoy rejects is not sent again until it changes; the rest goes
// on.
func TestAWSsEnvoyRejectsOneResource(t *testing.T) {
	c := startControl(t, 0)
	socket := c.socketOf(t)
	late := &mesh.Service{Name: name("late"), Protocol: mesh.HTTP}
	set := func(api, late *mesh.Service) { c.store.SetServices("prod", []*mesh.Service{api, late}) }
	old, fresh := aliased("api", awsAPI, time.Minute, netip.MustParseAddrPort("127.0.0.1:7001")), aliased("api", awsAPI, time.Minute, netip.MustParseAddrPort("127.0.0.1:7002"))
	set(old, late)
	e := startAWSTask(t, socket, "0ccc")
	eventually(t, e.says(t, vip(awsAPI), "api of 0ccc"))
	c.settled(t)
	rejected := func() float64 { return e.Stats(t)["cluster.late.prod.update_rejected"] }
	c.cache.Apply(c.cache.Status()[0].View, []*delta.Entry{poisoned(t, "late.prod")}, nil, nil)
	eventually(t, func() error {
		if rejected() == 0 {
			return errors.New("nothing was rejected")
		}
		return nil
	})
	for range 5 {
		set(fresh, late)
		eventually(t, e.says(t, vip(awsAPI), "new api of 0ccc"))
		set(old, late)
		eventually(t, e.says(t, vip(awsAPI), "api of 0ccc"))
	}
	if n := rejected(); n != 1 {
		t.Errorf("it was rejected %v times", n)
	}
	good := *late
	good.Endpoints = []mesh.Endpoint{{InstanceID: "l", Addr: netip.MustParseAddrPort("127.0.0.1:7001"), Weight: 1}}
	set(old, &good)
	eventually(t, func() error {
		if all, err := e.Get("/clusters"); err != nil || !strings.Contains(all, "late.prod::127.0.0.1:7001::") {
			return fmt.Errorf("late.prod has not changed: %v", err)
		}
		return nil
	})
}

// As a caller such an Envoy shows its workload's certificate. A service that
// asks for one has no task in this form, which would not ask.
func TestAWSsEnvoyAndMutualTLS(t *testing.T) {
	ca := testca.New(t)
	c := mutual(t, ca)
	socket := c.socketOf(t)
	api := aliased("api", awsAPI, time.Minute, netip.MustParseAddrPort("127.0.0.1:7003"))
	api.TLS, api.Endpoints[0].TLS, api.Policy = &mesh.ServiceTLS{Issuer: "default"}, true, wants(t, mode("required"))
	web := &mesh.Service{Name: name("web"), Protocol: mesh.HTTP}
	c.store.SetServices("prod", []*mesh.Service{api, web})
	e := startAWSTask(t, socket, "0fff")
	var lis net.Listener
	envoytest.In(t, e.ns, func() (err error) { lis, err = net.Listen("tcp", "127.0.0.1:7003"); return err })
	srv := &http.Server{ReadHeaderTimeout: time.Second,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ca.Certificate(t, "api.prod")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()},
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.TLS.PeerCertificates[0].URIs[0]) })}
	go srv.ServeTLS(lis, "", "") //nolint:errcheck // it ends with Close
	t.Cleanup(func() { srv.Close() })
	eventually(t, e.says(t, vip(awsAPI), spiffe("prod/web")))

	for text, want := range map[string]codes.Code{mode("permissive"): codes.FailedPrecondition, `{"retries": {"max": 1}}`: codes.OK} {
		asks := *web
		asks.TLS, asks.Policy = api.TLS, wants(t, text)
		c.store.SetServices("prod", []*mesh.Service{api, &asks})
		_, err := localCluster(t, socket, awsMetadata("0eee"))
		if status.Code(err) != want || err != nil && !strings.Contains(err.Error(), "web.prod has mutualTls") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// localCluster is what a node that says so is answered first.
func localCluster(t *testing.T, socket string, said map[string]any) (*discoveryv3.DiscoveryResponse, error) {
	t.Helper()
	b, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	meta := &structpb.Struct{}
	if err := meta.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Send(&discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: taskSet, Cluster: taskSet, Metadata: meta}, //nolint:errcheck // Recv tells
		TypeUrl: delta.EndpointType, ResourceNames: []string{bootstrap.LocalCluster}})
	return s.Recv()
}

func TestWhatANodeInAWSsFormMayNotSay(t *testing.T) {
	c := startControl(t, 0)
	c.store.SetServices("prod", nil)
	socket := c.socketOf(t)
	type m = map[string]any
	const ports, ips, sd, info = "aws.ecs.serviceconnect.ListenerPortMapping", "aws.ecs.serviceconnect.ClusterIPMapping", "aws.ecs.serviceconnect.ServiceDiscovery", "aws.appmesh.platformInfo"
	for _, x := range []struct {
		name  string
		tweak m
		code  codes.Code
		says  []string
	}{
		{"as it is", m{}, codes.OK, nil},
		{"newer keys", m{"aws.ecs.serviceconnect.New": 1}, codes.OK, nil},
		{"no egress", m{ports: m{"ingress-http": 1}}, codes.OK, nil},
		{"another namespace", m{sd: m{"NamespaceName": "dev"}}, codes.PermissionDenied, []string{`that of workload prod/web`, `namespace "dev"`, `allowed: "prod"`}},
		{"no listeners", m{ports: nil}, codes.InvalidArgument, []string{ports, "allowed: an object"}},
		{"all wrong", m{ports: m{"egress": "34365", "ingress-http": 70000, "a": 5, "b": 5}, ips: m{"app": "host"}, sd: m{"NamespaceName": 5, "NamespaceArn": "x"}, info: m{"supportedIPFamilies": "IPv5"}},
			codes.InvalidArgument, []string{`"egress": "34365"; allowed: a number of 1 to 65535`, `"ingress-http": 70000`, `"b": 5 is the port of "a" too`, `"app": "host"`, "NamespaceName: 5", `NamespaceArn: "x"`, `"IPv5"; allowed: ALL, IPv4_ONLY, IPv6_ONLY`}},
		{"strange listeners", m{ports: m{"ingress-http": 8080, "ingress-x": 3}}, codes.InvalidArgument, []string{`8080 is the application's own port`, `"ingress-x" is no listener of workload prod/web; allowed: egress, ingress-http, ingress-more`}},
		{"no such container", m{ports: m{"ingress-more": 3}, ips: m{"other": "172.17.0.2"}}, codes.InvalidArgument, []string{`no container "app", where port more is; it has other`}},
	} {
		said := awsMetadata("0ddd")
		maps.Copy(said, x.tweak)
		r, err := localCluster(t, socket, said)
		if status.Code(err) != x.code || err == nil && len(r.GetResources()) != 1 {
			t.Errorf("%s: %v, %v", x.name, r, err)
		}
		for _, w := range x.says {
			if !strings.Contains(status.Convert(err).Message(), w) {
				t.Errorf("%s: %v\nlacks %s", x.name, err, w)
			}
		}
	}
}

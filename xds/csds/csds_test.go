package csds

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"patchbay/xds/delta"
)

// books are those of two nodes, with one resource in each state.
func books() []delta.StreamStatus {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return []delta.StreamStatus{
		{Node: "prod/web/1", Cluster: "prod/web", View: "prod/bind/", Types: []delta.TypeStatus{
			{Type: "cds", LastAck: at, Resources: []delta.ResourceStatus{
				{Name: "ok", Sent: "v1", Accepted: "v1"}, {Name: "waiting", Sent: "v2", Accepted: "v1", Waiting: true},
				{Name: "pending", Sent: "v1", Accepted: "v1", Pending: true}, {Name: "bad", Sent: "v2", Accepted: "v1"},
			}, Rejected: []delta.Rejection{{Name: "bad", Version: "v2", Source: "bad.prod", Error: "no good", At: at}, {Name: "never", Version: "v9", Error: "bad too"}}},
			{Type: "sds", Missing: []string{"leaf/x"}},
		}},
		{Node: "prod/db/1", Cluster: "prod/db"},
	}
}

func TestStates(t *testing.T) {
	s := New(delta.NewCache(nil))
	s.streams = books
	resp, err := s.FetchClientStatus(t.Context(), &statusv3.ClientStatusRequest{})
	if err != nil || len(resp.Config) != 2 {
		t.Fatal(resp, err)
	}
	var got []string
	for _, r := range resp.Config[0].GenericXdsConfigs {
		got = append(got, strings.Join([]string{r.TypeUrl[strings.LastIndex(r.TypeUrl, ".")+1:], r.Name, r.VersionInfo, r.ConfigStatus.String(), r.ClientStatus.String(), r.GetErrorState().GetDetails()}, " "))
		if r.XdsConfig != nil {
			t.Errorf("%s: its content is shown", r.Name)
		}
	}
	want := []string{
		"Cluster ok v1 SYNCED ACKED ",
		"Cluster waiting v1 STALE REQUESTED ",
		"Cluster pending v1 STALE ACKED ",
		"Cluster bad v1 ERROR NACKED no good (made from bad.prod)",
		"Cluster never  ERROR NACKED bad too (made from )",
		"Secret leaf/x  NOT_SENT DOES_NOT_EXIST ",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMatchers(t *testing.T) {
	s := New(delta.NewCache(nil))
	s.streams = books
	id := func(m *matcherv3.StringMatcher) *matcherv3.NodeMatcher { return &matcherv3.NodeMatcher{NodeId: m} }
	for _, c := range []struct {
		m    []*matcherv3.NodeMatcher
		want int
		code codes.Code
	}{
		{nil, 2, codes.OK},
		{[]*matcherv3.NodeMatcher{id(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "prod/web/1"}})}, 1, codes.OK},
		{[]*matcherv3.NodeMatcher{id(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "prod/"}})}, 2, codes.OK},
		{[]*matcherv3.NodeMatcher{id(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: "nobody"}})}, 0, codes.OK},
		{[]*matcherv3.NodeMatcher{id(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{}})}, 0, codes.InvalidArgument},
		{[]*matcherv3.NodeMatcher{{NodeMetadatas: []*matcherv3.StructMatcher{{}}}}, 0, codes.InvalidArgument},
	} {
		resp, err := s.FetchClientStatus(t.Context(), &statusv3.ClientStatusRequest{NodeMatchers: c.m})
		if status.Code(err) != c.code || len(resp.GetConfig()) != c.want {
			t.Errorf("%v: %d nodes, %v", c.m, len(resp.GetConfig()), err)
		}
	}
}

// The same over gRPC and as JSON, on one plain HTTP listener.
func TestOnOneListener(t *testing.T) {
	s := New(delta.NewCache(nil))
	s.streams = books
	mux := http.NewServeMux()
	for _, p := range Paths {
		mux.Handle(p, s)
	}
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.Protocols = &http.Protocols{}
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	conn, err := grpc.NewClient("passthrough:///"+srv.Listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", a)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream, err := statusv3.NewClientStatusDiscoveryServiceClient(conn).StreamClientStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := stream.Send(&statusv3.ClientStatusRequest{}); err != nil {
			t.Fatal(err)
		}
		if resp, err := stream.Recv(); err != nil || len(resp.Config) != 2 {
			t.Fatalf("%v, %v", resp, err)
		}
	}
	for body, want := range map[string]int{"": 200, `{"nodeMatchers":[{"nodeId":{"exact":"prod/db/1"}}]}`: 200, "{": 400, `{"nodeMatchers":[{"nodeId":{"safeRegex":{}}}]}`: 400} {
		resp, err := http.Post(srv.URL+"/v3/discovery:client_status", "application/json", strings.NewReader(body)) //nolint:noctx // loopback
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want || want == 200 && !strings.Contains(string(b), "prod/db/1") || strings.Contains(body, "db/1") && strings.Contains(string(b), "prod/web/1") {
			t.Errorf("%q: %s %s", body, resp.Status, b)
		}
	}
}

package xds

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// TestNoPolicyIsRejectedByEnvoy: whatever the rules let through, the real
// Envoy takes. Members are drawn from the corners of what is allowed.
func TestNoPolicyIsRejectedByEnvoy(t *testing.T) {
	const services = 300
	c := startControl(t, 0)
	c.trust(testca.New(t))
	var all []*mesh.Service
	r := rand.New(rand.NewPCG(2026, 7))
	for i := range services {
		protocol := []mesh.Protocol{mesh.HTTP, mesh.HTTP2, mesh.GRPC, mesh.TCP}[i%4]
		n := fmt.Sprintf("s%d", i)
		s := &mesh.Service{Name: name(n), Protocol: protocol,
			Aliases:   []mesh.Alias{{DNSName: n, Port: 81, VIP: netip.AddrFrom4([4]byte{127, 200, byte(i >> 8), byte(i)})}},
			Endpoints: []mesh.Endpoint{{InstanceID: n, Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 1), Weight: 1, TLS: i%3 == 0}}}
		if i%3 == 0 {
			s.TLS = &mesh.ServiceTLS{Issuer: "default", Only: i%2 == 0}
		}
		for s.Policy == nil {
			p := corner(t, r)
			if p.Problems() == nil && p.Misplaced(policy.OfService, protocol.L7()) == nil {
				s.Policy = p
			}
		}
		all = append(all, s)
	}
	c.store.SetServices("prod", all)
	caller := c.task(t, "prod/web/1", "")
	stats := caller.Stats(t)
	for _, counter := range []string{"cluster_manager.cds.update_rejected", "listener_manager.lds.update_rejected"} {
		if n := stats[counter]; n != 0 {
			t.Errorf("%s: %v", counter, n)
		}
	}
	if n := caller.Sum(t, "http.egress.rds.", ".update_rejected"); n != 0 {
		t.Errorf("%v routes were rejected", n)
	}
	if n := caller.Sum(t, "http.egress.rds.", ".update_success"); n < services*3/4 {
		t.Errorf("%v routes, want those of %d services", n, services*3/4)
	}
	if n := stats["cluster_manager.active_clusters"]; n < services {
		t.Errorf("%v clusters, want %d and those of the bootstrap", n, services)
	}
	if w := c.pusher.Withheld(); len(w) != 0 {
		t.Errorf("withheld: %+v", w)
	}
}

// corner is a policy of some members, each at one of its extremes.
func corner(t *testing.T, r *rand.Rand) *policy.Policy {
	t.Helper()
	one := func(list ...string) string { return list[r.IntN(len(list))] }
	some := func(members ...string) string {
		var out []string
		for _, m := range members {
			if r.IntN(2) == 0 {
				out = append(out, m)
			}
		}
		return "{" + strings.Join(out, ",") + "}"
	}
	n := func() string { return one("0", "1", "3", "4294967295") }
	percent := func() string { return one("0", "1", "50", "100") }
	from1s := func() string { return one(`"1s"`, `"1h"`, `"24h"`) }
	time := func() string { return one(`"0s"`, `"1ms"`, `"15s"`, `"24h"`) }
	path := func() string { return one(`"/"`, `"/a"`, `"/a/"`, `"/a.b*c(d"`, `"/%2F"`) }
	methods := func() string { return one(`["GET"]`, `["GET","PUT"]`, `["M-SEARCH","X.Y","A|B"]`) }
	retries := func() string {
		return some(`"max":`+one("0", "1", "10"), `"on":`+one(`["503"]`, `["5xx","503","599"]`, `["unavailable","cancelled"]`, `["reset","retriable-4xx"]`),
			`"perTry":`+one(`"1ms"`, `"24h"`), `"ifMethodIs":`+methods(), `"budgetPercent":`+percent())
	}
	timeout := func() string { return some(`"perRequest":`+time(), `"idle":`+time()) }
	route := func() string {
		return some(`"match":`+some(`"path":`+path(), `"methods":`+methods(), `"headers":{"x-a":`+one(`"*"`, `"1"`, `"(["`)+`}`),
			`"to":`+one(`[{"weight":1}]`, `[{"service":"s1","weight":0},{"weight":2147483647}]`, `[{"service":"nobody","weight":1},{"service":"s2","weight":99}]`),
			`"mirror":{"service":"s3","percent":`+percent()+`}`, `"rewrite":`+some(`"prefix":`+path(), `"host":"a.example:80"`),
			`"timeout":`+timeout(), `"retries":`+retries())
	}
	text := some(`"preset":`+one(`"ecs"`, `"appmesh"`, `"envoy"`), `"retries":`+retries(),
		`"outlierDetection":`+some(`"failures":`+n(), `"serverErrors":`+n(), `"interval":`+from1s(), `"baseEjection":`+from1s(), `"maxEjection":`+from1s(), `"maxPercent":`+percent()),
		`"loadBalancing":`+some(`"algorithm":`+one(`"round_robin"`, `"least_request"`, `"random"`, `"ring_hash"`, `"client_side_weighted_round_robin"`),
			`"hashOn":`+one(`"source-ip"`, `"header:x"`, `"cookie:c"`), `"slowStart":`+from1s(), `"panicThreshold":`+percent()),
		`"connectionLimits":`+some(`"maxConnections":`+n(), `"maxPendingRequests":`+n(), `"maxRequests":`+n(), `"maxRetries":`+n()),
		`"healthCheck":`+some(`"protocol":`+one(`"grpc"`, `"tcp"`), `"path":`+path(), `"interval":`+from1s(), `"timeout":`+one(`"1ms"`, `"24h"`),
			`"healthyThreshold":`+one("1", "4294967295"), `"unhealthyThreshold":`+one("1", "4294967295")),
		`"fault":`+some(`"abort":{"status":`+one("200", "599")+`,"percent":`+percent()+`}`, `"delay":{"duration":`+one(`"1ms"`, `"24h"`)+`,"percent":`+percent()+`}`),
		`"routes":[`+route()+`,`+route()+`]`)
	p := &policy.Policy{}
	if err := json.Unmarshal([]byte(text), p); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

package definition

import (
	"strings"
	"testing"
)

func TestTrouble(t *testing.T) {
	for _, c := range []struct {
		target Target
		tls    bool
		want   string // "": none
	}{
		{Target{Protocol: "HTTPS", HealthCheck: "HTTPS", Balancer: "application", Policies: []string{"ELBSecurityPolicy-TLS13-1-2-2021-06"}}, true, ""},
		{Target{Protocol: "TCP", HealthCheck: "TCP", Balancer: "network"}, true, ""},
		{Target{Protocol: "HTTP", HealthCheck: "HTTP", Balancer: "application"}, false, ""},
		{Target{}, true, ""}, // nothing is shown
		{Target{Protocol: "HTTP", Balancer: "application"}, true, "speaks HTTP"},
		{Target{Protocol: "HTTPS", HealthCheck: "HTTP", Balancer: "application"}, true, "checks by HTTP,"},
		{Target{Protocol: "TCP", HealthCheck: "HTTPS", Balancer: "network"}, true, "checks by HTTPS"},
		{Target{Protocol: "HTTPS", Balancer: "application", Policies: []string{"ELBSecurityPolicy-2016-08"}}, true, "has no TLS 1.3"},
		{Target{Protocol: "HTTPS", Balancer: "application"}, true, "HTTP is the default of AWS"},
		{Target{Protocol: "HTTPS", HealthCheck: "HTTP", Balancer: "application"}, false, "speaks HTTPS, and the ingress takes plain text"},
		{Target{Protocol: "HTTP", HealthCheck: "HTTPS", Balancer: "application"}, false, "checks by HTTPS, and the ingress takes plain text"},
		{Target{Protocol: "TLS", HealthCheck: "TCP", Balancer: "network"}, false, "protocol TCP, or tls"},
		{Target{Protocol: "TLS", HealthCheck: "TCP", Balancer: "network"}, true, ""},
		{Target{Protocol: "TCP", HealthCheck: "HTTP", Balancer: "network"}, true, "a TCP health check"},
		{Target{Protocol: "TCP", HealthCheck: "HTTP", Balancer: "network"}, false, ""},
		{Target{Protocol: "UDP", Balancer: "network"}, false, "speaks UDP"},
		{Target{Protocol: "TCP", HealthCheck: "TCP", Balancer: "network", ProxyProtocol: true}, false, "PROXY protocol v2"},
		{Target{Protocol: "HTTP", HealthCheck: "HTTP", Balancer: "application", Policies: []string{"ELBSecurityPolicy-2016-08"}}, false, ""}, // what the targets take is plain
		{Target{Protocol: "TCP", HealthCheck: "TCP", Balancer: "network", Policies: []string{"ELBSecurityPolicy-2016-08"}}, true, ""},        // the listener's TLS ends there
		{Target{Protocol: "TCP", Balancer: "network", Unhealthy: []string{"10.0.1.17:15010 (why)"}}, true, "1 target unhealthy: 10.0.1.17:15010 (why);"},
	} {
		got := strings.Join(c.target.Trouble(c.tls), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%+v, TLS %v: %q, want %q", c.target, c.tls, got, c.want)
		}
	}
}

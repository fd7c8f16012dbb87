package show

import (
	"bytes"
	"testing"

	"patchbay/admin/api"
	"patchbay/agentapi"
)

// TestTapped: a line of a request that went wrong says so in words, and what
// strangers chose can't move the cursor.
func TestTapped(t *testing.T) {
	for want, r := range map[string]agentapi.Request{
		"00:00:00.000 n ingress GET web.prod/\uFFFD[2J\uFFFD 200 1.5 ms, 10 B in, 2.0 kB out, from spiffe://x 10.0.0.1:9 (TLSv1.3)\n    accept: \uFFFD\n": {
			Direction: "ingress", Method: "GET", Authority: "web.prod", Path: "/\x1b[2J\u009b", Status: 200, DurationMs: 1.52, Received: 10, Sent: 2000, From: "10.0.0.1:9",
			Caller: "spiffe://x", TLS: "TLSv1.3", Headers: map[string]string{"accept": "\r"},
		},
		"00:00:00.000 n egress GET web.prod/ 503 0.0 ms, 0 B in, 0 B out, to no endpoint of web.prod\n    no healthy upstream; details: no_healthy_upstream\n": {
			Direction: "egress", Method: "GET", Authority: "web.prod", Path: "/", Status: 503, Service: "web.prod", Flags: []string{"no healthy upstream"}, Details: "no_healthy_upstream",
		},
		"00:00:00.000 n egress connection ended 0.0 ms, 0 B in, 3.0 MB out, to db.prod 10.0.0.2:1 (plain), at the 2. attempt\n": {
			Direction: "egress", Protocol: "tcp", Service: "db.prod", Upstream: "10.0.0.2:1", Attempts: 2, Sent: 3_000_000,
		},
		"00:00:00.000 n egress GET api.demo/ 503 0.0 ms, 0 B in, 0 B out, to api.demo 10.0.0.3:443 (no TLS: the handshake failed)\n    upstream connection failure; TLS_error: CERTIFICATE_VERIFY_FAILED\n": {
			Direction: "egress", Method: "GET", Authority: "api.demo", Path: "/", Status: 503, Service: "api.demo", Upstream: "10.0.0.3:443", Flags: []string{"upstream connection failure"}, Failure: "TLS_error: CERTIFICATE_VERIFY_FAILED",
		},
		"00:00:00.000 n egress GET api.demo/ 503 0.0 ms, 0 B in, 0 B out, to api.demo 10.0.0.3:443 (no connection)\n    upstream connection failure\n": {
			Direction: "egress", Method: "GET", Authority: "api.demo", Path: "/", Status: 503, Service: "api.demo", Upstream: "10.0.0.3:443", Flags: []string{"upstream connection failure"},
		},
		"00:00:00.000 n egress POST a/b no answer grpc Unavailable 0.0 ms, 0 B in, 0 B out, to nobody\n": {Direction: "egress", Method: "POST", Authority: "a", Path: "/b", GRPCStatus: "Unavailable"},
	} {
		var b bytes.Buffer
		p := &Printer{W: &b}
		p.Tapped(&api.Tapped{Node: "n", Request: r})
		got := b.String()
		if at := len("00:00:00.000"); len(got) < at || got[at:] != want[at:] {
			t.Errorf("%q\nwant %q", got, want)
		}
	}
}

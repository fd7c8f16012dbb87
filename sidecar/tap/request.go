package tap

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	"patchbay/agentapi"
	"patchbay/xds/bootstrap"
)

// longest bounds each word of a request, in bytes.
const longest = 1000

// redacted stands in the place of a header's value that may be a secret.
const redacted = "[redacted]"

// request is what is shown of an entry: what is so, not what headers such as
// x-envoy-original-path and x-forwarded-for say of it.
func (t *Tap) request(direction string, want *agentapi.Tap, e *datav3.HTTPAccessLogEntry) agentapi.Request {
	r := t.common(direction, e.GetCommonProperties())
	in, out := e.GetRequest(), e.GetResponse()
	r.Protocol, r.Method = protocols[e.GetProtocolVersion()], method(in.GetRequestMethod())
	r.Authority, r.Path, r.UserAgent, r.RequestID = short(in.GetAuthority()), in.GetPath(), short(in.GetUserAgent()), short(in.GetRequestId())
	if !want.GetQuery() {
		r.Path, _, _ = strings.Cut(r.Path, "?")
	}
	r.Path = short(r.Path)
	r.Status, r.Details = out.GetResponseCode().GetValue(), out.GetResponseCodeDetails()
	r.GRPCStatus = grpcStatus(cmp.Or(out.GetResponseTrailers()[bootstrap.TapGRPCStatus], out.GetResponseHeaders()[bootstrap.TapGRPCStatus]))
	if want.GetHeaders() {
		r.Headers = map[string]string{}
		for name, value := range in.GetRequestHeaders() {
			if !slices.Contains(bootstrap.TapHeaders, name) {
				value = redacted
			}
			r.Headers[name] = short(value)
		}
	}
	return r
}

// connection is what is shown of a connection of tcp.
func (t *Tap) connection(direction string, e *datav3.TCPAccessLogEntry) agentapi.Request {
	r := t.common(direction, e.GetCommonProperties())
	r.Protocol, r.Details = "tcp", e.GetCommonProperties().GetConnectionTerminationDetails()
	return r
}

func (t *Tap) common(direction string, c *datav3.AccessLogCommon) agentapi.Request {
	r := agentapi.Request{
		Time: c.GetStartTime().AsTime(), Direction: direction, From: address(c.GetDownstreamDirectRemoteAddress()), Upstream: address(c.GetUpstreamRemoteAddress()),
		Flags: flags(c.GetResponseFlags()), Failure: short(c.GetUpstreamTransportFailureReason()), Attempts: c.GetUpstreamRequestAttemptCount(),
		DurationMs: float64(c.GetDuration().AsDuration().Microseconds()) / 1000,
		Received:   c.GetDownstreamWireBytesReceived(), Sent: c.GetDownstreamWireBytesSent(),
	}
	if direction == bootstrap.TapEgress {
		r.Service, r.Revision, _ = strings.Cut(c.GetUpstreamCluster(), "~")
		r.TLS, r.Callee = more(c)
		return r
	}
	if port, ok := strings.CutPrefix(c.GetUpstreamCluster(), "app-"); ok {
		r.Service = t.c.Service(port)
	}
	tls := c.GetTlsProperties()
	r.TLS = versions[tls.GetTlsVersion()]
	for _, n := range tls.GetPeerCertificateProperties().GetSubjectAltName() {
		if n.GetUri() != "" {
			r.Caller = n.GetUri()
		}
	}
	return r
}

var protocols = map[datav3.HTTPAccessLogEntry_HTTPVersion]string{
	datav3.HTTPAccessLogEntry_HTTP10: "HTTP/1.0", datav3.HTTPAccessLogEntry_HTTP11: "HTTP/1.1",
	datav3.HTTPAccessLogEntry_HTTP2: "HTTP/2", datav3.HTTPAccessLogEntry_HTTP3: "HTTP/3", datav3.HTTPAccessLogEntry_PROTOCOL_UNSPECIFIED: "HTTP",
}

var versions = map[datav3.TLSProperties_TLSVersion]string{
	datav3.TLSProperties_TLSv1: "TLSv1", datav3.TLSProperties_TLSv1_1: "TLSv1.1", datav3.TLSProperties_TLSv1_2: "TLSv1.2", datav3.TLSProperties_TLSv1_3: "TLSv1.3",
}

// method is empty for those that Envoy has no name for.
func method(m corev3.RequestMethod) string {
	if m == corev3.RequestMethod_METHOD_UNSPECIFIED {
		return ""
	}
	return m.String()
}

// more reads [bootstrap.TapTag]; what Envoy has no value for is empty.
func more(c *datav3.AccessLogCommon) (tls, callee string) {
	words := strings.Fields(c.GetCustomTags()[bootstrap.TapTag])
	for i, w := range words {
		if w == "-" {
			words[i] = ""
		}
	}
	words = append(words, "", "")
	return words[0], words[1]
}

// grpcStatus is the name of a status that is written as a number.
func grpcStatus(number string) string {
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return ""
	}
	return codes.Code(n).String()
}

// flags are the response flags that are set, in the words of their message.
func flags(f *datav3.ResponseFlags) []string {
	var out []string
	f.ProtoReflect().Range(func(d protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		out = append(out, strings.ReplaceAll(string(d.Name()), "_", " "))
		return true
	})
	slices.Sort(out)
	return out
}

func address(a *corev3.Address) string {
	s := a.GetSocketAddress()
	if s.GetAddress() == "" {
		return ""
	}
	return net.JoinHostPort(s.GetAddress(), strconv.Itoa(int(s.GetPortValue())))
}

// short cuts what strangers choose.
func short(s string) string {
	if len(s) <= longest {
		return s
	}
	s = s[:longest]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

func matches(want *agentapi.Tap, r agentapi.Request) bool {
	if n := want.GetLeastStatus(); n > 0 && r.Status < n {
		return false
	}
	if n := want.GetMostStatus(); n > 0 && (r.Status > n || r.Status == 0) {
		return false
	}
	return strings.HasPrefix(r.Path, want.GetPath())
}

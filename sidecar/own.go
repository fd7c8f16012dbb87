package sidecar

import (
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
)

// ownVariables are the URLs that AWS's SDK and ECS give a task. What they name
// is asked for credentials, for metadata, and for the proof of a role.
var ownVariables = []string{"AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "ECS_CONTAINER_METADATA_URI_V4"}

// stsHost are AWS STS's own names, of every region.
var stsHost = regexp.MustCompile(`^sts(-fips)?(\.[a-z0-9-]+)?\.amazonaws\.com(\.cn)?$`)

// needs reports whether the agent itself calls a host by a name: in the hosts
// file that name would lead it to its own Envoy, and it would never hear of the
// control plane again that it is wrong.
func (c Config) needs(dnsName string) bool {
	is := func(host string) bool { return strings.EqualFold(strings.TrimSuffix(host, "."), dnsName) }
	for _, x := range c.XDS {
		if is(x.Host) {
			return true
		}
	}
	for _, x := range c.Agent {
		if host, _, err := net.SplitHostPort(x); err == nil && is(host) {
			return true
		}
	}
	for _, v := range ownVariables {
		if u, err := url.Parse(os.Getenv(v)); err == nil && is(u.Hostname()) {
			return true
		}
	}
	return stsHost.MatchString(dnsName)
}

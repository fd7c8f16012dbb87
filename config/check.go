package config

import (
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/config/strict"
)

var (
	// trustDomainForm is the SPIFFE ID standard's: section 2.1.
	trustDomainForm = regexp.MustCompile(`^[a-z0-9._-]{1,255}$`)
	// issuerForm holds names, and the ARNs of private CAs.
	issuerForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:/_.-]{0,254}$`)
)

// check holds the rules that types can't.
func (k *checker) check(c Config) {
	if !trustDomainForm.MatchString(c.TrustDomain) {
		k.Bad("trustDomain", "%s; allowed: up to 255 of [a-z0-9._-]", strict.Quote(c.TrustDomain))
	}
	k.namespaces(c.Namespaces)
	if c.Data == "" {
		k.Bad("data", "is empty; allowed: a directory")
	}
	ports := map[string]string{}
	for _, l := range [][2]string{{"xds.listen", c.XDS.Listen}, {"agent.listen", c.Agent.Listen}, {"admin.listen", c.Admin.Listen}} {
		k.listen(l[0], l[1], ports)
	}
	for i, n := range c.Agent.ProxyProtocol {
		if p, err := netip.ParsePrefix(n); err != nil || p.Masked() != p {
			k.Bad("agent.proxyProtocol["+strconv.Itoa(i)+"]", "%s; allowed: the network of a load balancer, such as 10.0.0.0/24", strict.Quote(n))
		}
	}
	if t := c.Admin.TLS; t != nil {
		for _, f := range [][2]string{{"admin.tls.certFile", t.CertFile}, {"admin.tls.keyFile", t.KeyFile}} {
			if f[1] == "" {
				k.Bad(f[0], "is missing; allowed: the file of the certificate that the port shows, and of its key, in PEM")
			}
		}
	}
	k.registry(c, ports)
	k.replicas(c, ports)
	switch {
	case c.XDS.Auth != "mtls" && c.XDS.Auth != "none":
		k.Bad("xds.auth", "%s; allowed: mtls, or none on loopback", strict.Quote(c.XDS.Auth))
	case c.XDS.Auth == "none" && !Loopback(c.XDS.Listen) && !k.Spoiled("xds.listen"):
		k.Bad("xds.auth", "none, but xds.listen is %s; allowed: none on a loopback address only, since anyone who connects would get any node's private keys", c.XDS.Listen)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Issuers)) {
		k.issuer(name, c.Issuers[name])
	}
	if name := c.MutualTLS.Issuer; name != "" {
		if _, ok := c.Issuers[name]; !ok {
			k.Bad("mutualTls.issuer", "%s is not one of issuers; allowed: %s", strict.Quote(name), orNone(slices.Sorted(maps.Keys(c.Issuers))))
		}
	}
	k.secrets(c)
	k.identities(c)
	k.external(c)
	k.tracing(c.Tracing)
	k.unix(c)
	k.oneOf("xds.leds", c.XDS.LEDS, "off", "auto", "on")
	k.oneOf("profile", c.Profile, "live")
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "text", "json")
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none, for there are no issuers"
	}
	return strings.Join(names, ", ")
}

func (k *checker) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		k.Bad(path, "%s; allowed: %s", strict.Quote(value), strings.Join(allowed, ", "))
	}
}

func (k *checker) registry(c Config, ports map[string]string) {
	switch {
	case k.Spoiled("registry") || k.Spoiled("cloudMap"):
	case c.Registry == nil && c.CloudMap == nil:
		k.Bad("registry", "and cloudMap are both missing; allowed: `registry: {listen: \"127.0.0.1:18003\"}` for the embedded registry, or `cloudMap: {}` for AWS")
	case c.Registry != nil && c.CloudMap != nil:
		k.Bad("cloudMap", "stands beside registry; allowed: one of the two")
	case c.Registry != nil:
		k.listen("registry.listen", c.Registry.Listen, ports)
		if !Loopback(c.Registry.Listen) && c.Registry.KeysFile == "" && !k.Spoiled("registry.listen") {
			k.Bad("registry.keysFile", "is missing, but registry.listen is %s; allowed: a file of access keys, or a loopback address", c.Registry.Listen)
		}
		k.lease("registry.lease", c.Registry.Lease)
		if c.Registry.Etcd != nil {
			k.etcd("registry.etcd", c.Registry.Etcd)
		}
	default:
		k.cloudNamespaces(c)
		if c.CloudMap.Endpoint != "" {
			k.url("cloudMap.endpoint", c.CloudMap.Endpoint, "http", "https")
		}
		if k.Written("cloudMap.lease") {
			k.lease("cloudMap.lease", c.CloudMap.Lease)
			if c.CloudMap.Endpoint == "" {
				k.Bad("cloudMap.lease", "stands without cloudMap.endpoint; allowed: only for a patchbay registry, since AWS has no leases")
			}
		}
	}
}

func (k *checker) lease(path string, l time.Duration) {
	if !k.Spoiled(path) && (l < MinLease || l > MaxLease || l%time.Second != 0) {
		k.Bad(path, "%s; allowed: whole seconds, %s to %s", l, MinLease, MaxLease)
	}
}

// listen holds an address against its form; one that has none is spoiled.
func (k *checker) listen(path, addr string, ports map[string]string) {
	host, port, err := net.SplitHostPort(addr)
	n, perr := strconv.ParseUint(port, 10, 16)
	_, aerr := netip.ParseAddr(host)
	if err != nil || perr != nil || n == 0 || aerr != nil && host != "localhost" && host != "" {
		k.Bad(path, "%s; allowed: IP:PORT with a port of 1 to 65535, such as 127.0.0.1:18002 or 0.0.0.0:18000", strict.Quote(addr))
		k.Spoil(path)
		return
	}
	if other := ports[port]; other != "" {
		k.Bad(path, "port %s is that of %s too; allowed: a port of its own", port, other)
	}
	ports[port] = path
}

func (k *checker) url(path, s string, schemes ...string) {
	if s == "" {
		k.Bad(path, "is missing; allowed: a URL that starts with %s://", strings.Join(schemes, ":// or "))
		return
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
		k.Bad(path, "%s; allowed: a URL that starts with %s://", strict.Quote(s), strings.Join(schemes, ":// or "))
	}
}

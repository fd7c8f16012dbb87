package config

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// trustDomainForm is the SPIFFE ID standard's: section 2.1.
var trustDomainForm = regexp.MustCompile(`^[a-z0-9._-]{1,255}$`)

// check holds the rules that types can't.
func (k *checker) check(c Config) {
	if !trustDomainForm.MatchString(c.TrustDomain) {
		k.bad("trustDomain", "%q; allowed: up to 255 of [a-z0-9._-]", c.TrustDomain)
	}
	if len(c.Namespaces) == 0 {
		k.bad("namespaces", "is missing; allowed: a list with at least one Cloud Map namespace, such as [demo]")
	}
	for i, n := range c.Namespaces {
		at := "namespaces[" + strconv.Itoa(i) + "]"
		if n == "" || strings.ContainsAny(n, " <>\"/") || len(n) > 253 {
			k.bad(at, "%q; allowed: a namespace's name", n)
		}
		if slices.Contains(c.Namespaces[:i], n) {
			k.bad(at, "%q stands twice; allowed: each namespace once", n)
		}
	}
	k.registry(c)
	ports := map[string]string{}
	for _, l := range [][2]string{{"xds.listen", c.XDS.Listen}, {"agent.listen", c.Agent.Listen}, {"admin.listen", c.Admin.Listen}} {
		k.listen(l[0], l[1], ports)
	}
	switch {
	case c.XDS.Auth != "mtls" && c.XDS.Auth != "none":
		k.bad("xds.auth", "%q; allowed: mtls, or none on loopback", c.XDS.Auth)
	case c.XDS.Auth == "none" && !Loopback(c.XDS.Listen):
		k.bad("xds.auth", "none, but xds.listen is %s; allowed: none on a loopback address only, since anyone who connects would get any node's private keys", c.XDS.Listen)
	}
	if !Loopback(c.Admin.Listen) && c.Admin.TokenFile == "" {
		k.bad("admin.tokenFile", "is missing, but admin.listen is %s; allowed: a file with the token that callers must send, or a loopback address", c.Admin.Listen)
	}
	k.issuers(c)
	k.oneOf("profile", c.Profile, "live")
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "text", "json")
}

func (k *checker) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		k.bad(path, "%q; allowed: %s", value, strings.Join(allowed, ", "))
	}
}

func (k *checker) registry(c Config) {
	switch {
	case c.Registry == nil && c.CloudMap == nil:
		k.bad("registry", "and cloudMap are both missing; allowed: `registry: {listen: 127.0.0.1:18003}` for the embedded registry, or `cloudMap: {}` for AWS")
	case c.Registry != nil && c.CloudMap != nil:
		k.bad("cloudMap", "stands beside registry; allowed: one of the two")
	case c.Registry != nil:
		k.listen("registry.listen", c.Registry.Listen, map[string]string{})
		if !Loopback(c.Registry.Listen) && c.Registry.KeysFile == "" {
			k.bad("registry.keysFile", "is missing, but registry.listen is %s; allowed: a file of access keys, or a loopback address", c.Registry.Listen)
		}
	case c.CloudMap.Endpoint != "":
		k.url("cloudMap.endpoint", c.CloudMap.Endpoint, "http", "https")
	}
}

func (k *checker) listen(path, addr string, seen map[string]string) {
	host, port, err := net.SplitHostPort(addr)
	n, perr := strconv.ParseUint(port, 10, 16)
	_, aerr := netip.ParseAddr(host)
	if err != nil || perr != nil || n == 0 || aerr != nil && host != "localhost" && host != "" {
		k.bad(path, "%q; allowed: IP:PORT, such as 127.0.0.1:18002 or 0.0.0.0:18000", addr)
		return
	}
	if other := seen[port]; other != "" {
		k.bad(path, "port %s is that of %s too; allowed: a port of its own", port, other)
	}
	seen[port] = path
}

func (k *checker) url(path, s string, schemes ...string) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
		k.bad(path, "%q; allowed: a URL that starts with %s://", s, strings.Join(schemes, ":// or "))
	}
}

func (k *checker) issuers(c Config) {
	for name, i := range c.Issuers {
		at := "issuers." + name + ".stepCA"
		s := i.StepCA
		if s == nil {
			k.bad("issuers."+name, "names no kind of CA; allowed: stepCA")
			continue
		}
		k.url(at+".url", s.URL, "https")
		if (s.Fingerprint == "") == (s.FingerprintFile == "") {
			k.bad(at+".fingerprint", "allowed: exactly one of fingerprint and fingerprintFile")
		}
		if s.Provisioner == "" {
			k.bad(at+".provisioner", "is missing; allowed: the name of a JWK provisioner")
		}
		if s.PasswordFile == "" {
			k.bad(at+".passwordFile", "is missing; allowed: a file with the provisioner's password")
		}
		if s.Lifetime != 0 && s.Lifetime < MinLeafLifetime {
			k.bad(at+".lifetime", "%v; allowed: at least %v, or absent for the CA's default", s.Lifetime, MinLeafLifetime)
		}
	}
}

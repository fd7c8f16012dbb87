package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"patchbay/config/strict"
	"patchbay/mesh"
)

// External is a target outside the mesh that tasks call by an alias.
type External struct {
	Name      string        `yaml:"name"`      // discoveryName
	Namespace string        `yaml:"namespace"` // empty: the only one
	Protocol  string        `yaml:"protocol"`  // http, http2, grpc, tcp; empty: tcp
	Alias     ExternalAlias `yaml:"alias"`
	Addresses []string      `yaml:"addresses"` // HOST:PORT
	Discovery string        `yaml:"discovery"` // STRICT_DNS, LOGICAL_DNS; empty: as the addresses need
	Host      string        `yaml:"host"`      // of requests; empty: the first address's
	TLS       *ExternalTLS  `yaml:"tls"`       // nil: plain text
	Callers   []string      `yaml:"callers"`   // names of workloads; nil: all of the namespace
}

// ExternalAlias is the name and port that applications call.
type ExternalAlias struct {
	DNSName string `yaml:"dnsName"` // empty: as External.AliasIn says
	Port    uint16 `yaml:"port"`    // empty: the same
}

// ExternalTLS says how a target is verified.
type ExternalTLS struct {
	SNI            string   `yaml:"sni"`    // empty: the first address's name
	Names          []string `yaml:"names"`  // empty: the SNI
	CAFile         string   `yaml:"caFile"` // empty: what this machine trusts
	MinimumVersion string   `yaml:"minimumVersion"`
}

// maxExternal and maxAddresses are far beyond what one file should list.
const (
	maxExternal  = 500
	maxAddresses = 100
)

// In is the namespace of e, in lower case: its own, or the only one.
func (e External) In(c Config) string {
	if e.Namespace == "" && len(c.Namespaces) == 1 {
		return strings.ToLower(c.Namespaces[0])
	}
	return strings.ToLower(e.Namespace)
}

// HostPorts are e's addresses, apart. They have been checked.
func (e External) HostPorts() (out []mesh.HostPort) {
	for _, a := range e.Addresses {
		if host, port, err := hostPort(a); err == nil {
			out = append(out, mesh.HostPort{Host: host, Port: port})
		}
	}
	return out
}

// addressForm is what hostPort allows, for messages.
var addressForm = fmt.Sprintf("HOST:PORT with a port of 1 to 65535, where HOST is a DNS name, or an IP address that is not link-local nor in %s or %s", mesh.LiveVIPs.Masked(), mesh.StrictVIPs)

var (
	errForm    = errors.New("it is not HOST:PORT")
	errURL     = errors.New("a scheme such as https:// has no place here, nor a path")
	errAddress = errors.New("the host is missing, or neither a DNS name nor an IP address")
)

// hostPort are the parts of an address that a task's Envoy can call.
func hostPort(s string) (string, uint16, error) {
	host, p, err := net.SplitHostPort(s)
	if strings.Contains(s, "://") {
		return "", 0, errURL
	} else if err != nil {
		return "", 0, errForm
	}
	if _, err := netip.ParseAddr(host); err == nil {
		a, err := mesh.CleanAddr(host, p)
		return a.Addr().String(), a.Port(), err
	}
	port, err := strconv.ParseUint(p, 10, 16)
	switch {
	case err != nil || port == 0:
		return "", 0, mesh.ErrPort
	case !mesh.ValidHost(host):
		return "", 0, errAddress
	}
	return host, uint16(port), nil
}

// validAuthority reports whether s can be the host of a request: a host, with a
// port or without.
func validAuthority(s string) bool {
	if _, p, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return false
		}
		s = strings.TrimSuffix(s, ":"+p)
	}
	if in, six := strings.CutPrefix(s, "["); six {
		a, err := netip.ParseAddr(strings.TrimSuffix(in, "]"))
		return err == nil && a.Is6() && a.Zone() == "" && strings.HasSuffix(in, "]")
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4() || mesh.ValidHost(s)
}

func (k *checker) external(c Config) {
	if n := len(c.External); n > maxExternal {
		k.Bad("external", "has %d entries; allowed: up to %d", n, maxExternal)
	}
	names, aliases := map[string]int{}, map[string]int{}
	hosts := map[string]bool{}
	for i, e := range c.External {
		at := "external[" + strconv.Itoa(i) + "]"
		k.target(at, c, e)
		name, alias := e.In(c)+"/"+e.Name, e.AliasIn(c)
		if first, twice := names[name]; twice {
			k.Bad(at+".name", "%s is that of external[%d] too; allowed: each once in a namespace", strict.Quote(e.Name), first)
		} else {
			names[name] = i
		}
		key := fmt.Sprintf("%s/%s:%d", e.In(c), alias.DNSName, alias.Port)
		if first, twice := aliases[key]; twice && alias.Port != 0 {
			k.Bad(at+".alias", "%s:%d is that of external[%d] too; allowed: each once", alias.DNSName, alias.Port, first)
		} else {
			aliases[key] = i
		}
		hosts[alias.DNSName] = true
	}
	for i, e := range c.External {
		for j, a := range e.HostPorts() {
			if hosts[strings.ToLower(a.Host)] {
				k.Bad(fmt.Sprintf("external[%d].addresses[%d]", i, j), "%s is an alias, so that in a task it is the sidecar itself; allowed: another alias", strict.Quote(a.Host))
			}
		}
	}
	if c.Tracing != nil && hosts[strings.ToLower(c.Tracing.CollectorAddress().Host)] {
		k.Bad("tracing.collector", "%s is an alias of external, so that in a task it is the sidecar itself; allowed: another alias", strict.Quote(c.Tracing.Collector))
	}
}

// AliasIn is e's alias, in lower case and with what it leaves out: NAME.NAMESPACE,
// and port 80, or for tcp that of the first address. The port is 0 where no
// address says it.
func (e External) AliasIn(c Config) mesh.Alias {
	a := mesh.Alias{DNSName: strings.ToLower(e.Alias.DNSName), Port: e.Alias.Port}
	if a.DNSName == "" {
		a.DNSName = e.Name + "." + e.In(c)
	}
	if a.Port != 0 {
		return a
	}
	if e.Protocol != "" && e.Protocol != string(mesh.TCP) {
		a.Port = 80
	} else if all := e.HostPorts(); len(all) > 0 {
		a.Port = all[0].Port
	}
	return a
}

func (k *checker) target(at string, c Config, e External) {
	if !mesh.ValidDiscoveryName(e.Name) {
		k.Bad(at+".name", "%s; allowed: up to 64 of [a-z0-9_-], not starting with '-'", strict.Quote(e.Name))
	}
	switch {
	case e.In(c) == "" && len(c.Namespaces) > 1:
		k.Bad(at+".namespace", "is missing; allowed: one of %s", strings.Join(c.Namespaces, ", "))
	case !slices.ContainsFunc(c.Namespaces, func(n string) bool { return strings.EqualFold(n, e.In(c)) }) && len(c.Namespaces) > 0:
		k.Bad(at+".namespace", "%s; allowed: one of %s", strict.Quote(e.Namespace), strings.Join(c.Namespaces, ", "))
	}
	k.ifAny(at+".protocol", e.Protocol, "http", "http2", "grpc", "tcp")
	if e.Alias.DNSName != "" && !mesh.ValidDNSName(e.Alias.DNSName) {
		k.Bad(at+".alias.dnsName", "%s; allowed: "+mesh.DNSNameForm, strict.Quote(e.Alias.DNSName))
	}
	if n := len(e.Addresses); n == 0 || n > maxAddresses {
		k.Bad(at+".addresses", "has %d entries; allowed: 1 to %d of HOST:PORT, such as [\"api.example.com:443\"]", n, maxAddresses)
	}
	named := 0
	for j, a := range e.Addresses {
		host, _, err := hostPort(a)
		if err != nil {
			k.Bad(at+".addresses["+strconv.Itoa(j)+"]", "%s: %v; allowed: "+addressForm, strict.Quote(a), err)
		} else if _, err := netip.ParseAddr(host); err != nil {
			named++
		}
	}
	k.ifAny(at+".discovery", e.Discovery, "STRICT_DNS", "LOGICAL_DNS")
	if e.Discovery == "LOGICAL_DNS" && (len(e.Addresses) != 1 || named != 1) {
		k.Bad(at+".discovery", "LOGICAL_DNS has one address, by name; allowed: STRICT_DNS")
	}
	if e.Host != "" && (e.Protocol == "" || e.Protocol == "tcp") {
		k.Bad(at+".host", "a tcp target has no requests; allowed: with http, http2, grpc")
	} else if e.Host != "" && !validAuthority(e.Host) {
		k.Bad(at+".host", "%s; allowed: a host, or HOST:PORT with a port of 1 to 65535; a host is an IP address or "+mesh.HostForm, strict.Quote(e.Host))
	}
	if e.Callers != nil && len(e.Callers) == 0 {
		k.Bad(at+".callers", "is empty; allowed: names of workloads, or no callers at all: then every workload of the namespace may call")
	}
	for j, w := range e.Callers {
		if !ecsForm.MatchString(w) {
			k.Bad(at+".callers["+strconv.Itoa(j)+"]", "%s; allowed: the name of a workload", strict.Quote(w))
		}
	}
	if t := e.TLS; t != nil {
		k.externalTLS(at+".tls", t)
	}
}

// ifAny is oneOf for what may be absent.
func (k *checker) ifAny(path, value string, allowed ...string) {
	if value != "" {
		k.oneOf(path, value, allowed...)
	}
}

func (k *checker) externalTLS(at string, t *ExternalTLS) {
	if t.SNI != "" && !mesh.ValidHost(t.SNI) {
		k.Bad(at+".sni", "%s; allowed: "+mesh.HostForm, strict.Quote(t.SNI))
	}
	for i, n := range t.Names {
		if _, err := netip.ParseAddr(n); err != nil && !mesh.ValidHost(n) {
			k.Bad(at+".names["+strconv.Itoa(i)+"]", "%s; allowed: a DNS name without wildcard, or an IP address", strict.Quote(n))
		}
	}
	k.ifAny(at+".minimumVersion", t.MinimumVersion, "1.2", "1.3")
}

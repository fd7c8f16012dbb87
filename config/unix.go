package config

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patchbay/config/strict"
	"patchbay/mesh"
)

// Unix is a Unix socket on which ADS is served without TLS. Who may open it is
// a task of its workload: the permissions of the path are the guard.
type Unix struct {
	Path      string `yaml:"path"`      // absolute, at most MaxSocketPath bytes
	Mode      string `yaml:"mode"`      // of the file: octal; empty: 0600
	Namespace string `yaml:"namespace"` // one of Config.Namespaces
	Workload  string `yaml:"workload"`
	// Ports are what the workload offers. A node in our own form may offer
	// these discovery names; one in the form of AWS's agent, which says only
	// where its Envoy listens, is given the rest from here.
	Ports []UnixPort `yaml:"ports"`
}

// UnixPort is a port that a workload on a socket offers.
type UnixPort struct {
	PortName      string `yaml:"portName"`
	DiscoveryName string `yaml:"discoveryName"` // empty: the port's name
	Protocol      string `yaml:"protocol"`      // http, http2, grpc, tcp
	AppPort       uint16 `yaml:"appPort"`       // where the application listens
	Container     string `yaml:"container"`     // whose address ClusterIPMapping gives; empty: the task's loopback
	Issuer        string `yaml:"issuer"`        // of the port's certificate; empty: plain text
}

const (
	// MaxSocketPath is what a Unix socket's address can hold, in bytes.
	MaxSocketPath = 107

	defaultSocketMode = 0o600
	maxSockets        = 100
	maxSocketPorts    = 100
)

// modeForm has the owner's read and write bits: a server that can't open its
// own socket is a mistake.
var modeForm = regexp.MustCompile(`^0?[67][0-7]{2}$`)

// FileMode is the mode of the socket's file.
func (u Unix) FileMode() uint32 {
	if u.Mode == "" {
		return defaultSocketMode
	}
	n, err := strconv.ParseUint(u.Mode, 8, 32)
	if err != nil {
		return defaultSocketMode // check has refused it
	}
	return uint32(n)
}

// Owner is the workload of the socket, with all that it may offer.
func (u Unix) Owner() mesh.Workload {
	w := mesh.Workload{Namespace: strings.ToLower(u.Namespace), Name: u.Workload}
	for _, p := range u.Ports {
		w.DiscoveryNames = append(w.DiscoveryNames, p.Name())
	}
	slices.Sort(w.DiscoveryNames)
	w.DiscoveryNames = slices.Compact(w.DiscoveryNames)
	return w
}

// Name is the port's discovery name.
func (p UnixPort) Name() string {
	if p.DiscoveryName == "" {
		return p.PortName
	}
	return p.DiscoveryName
}

func (k *checker) unix(c Config) {
	if len(c.XDS.Unix) > maxSockets {
		k.Bad("xds.unix", "has %d sockets; allowed: %d", len(c.XDS.Unix), maxSockets)
		return
	}
	paths := map[string]bool{}
	for i, u := range c.XDS.Unix {
		at := "xds.unix[" + strconv.Itoa(i) + "]"
		switch {
		case k.Spoiled(at):
			continue
		case !filepath.IsAbs(u.Path) || len(u.Path) > MaxSocketPath || filepath.Clean(u.Path) != u.Path || strings.ContainsRune(u.Path, 0):
			k.Bad(at+".path", "%s (%d bytes); allowed: an absolute path, without . and .., of at most %d bytes", strict.Quote(u.Path), len(u.Path), MaxSocketPath)
		case paths[u.Path]:
			k.Bad(at+".path", "%s stands twice; allowed: a path of its own, since the identity follows the socket", strict.Quote(u.Path))
		}
		paths[u.Path] = true
		if u.Mode != "" && !modeForm.MatchString(u.Mode) {
			k.Bad(at+".mode", "%s; allowed: an octal mode with which the owner reads and writes, such as 0660", strict.Quote(u.Mode))
		}
		if !slices.ContainsFunc(c.Namespaces, func(n string) bool { return strings.EqualFold(n, u.Namespace) }) && !k.Spoiled("namespaces") {
			k.Bad(at+".namespace", "%s; allowed: one of namespaces (%s)", strict.Quote(u.Namespace), strings.Join(c.Namespaces, ", "))
		}
		if !mesh.ValidDiscoveryName(u.Workload) {
			k.Bad(at+".workload", "%s; allowed: 1 to 64 of [a-z0-9_-], not starting with '-'", strict.Quote(u.Workload))
		}
		k.unixPorts(at+".ports", u.Ports)
	}
}

func (k *checker) unixPorts(path string, ports []UnixPort) {
	if len(ports) > maxSocketPorts {
		k.Bad(path, "has %d ports; allowed: %d", len(ports), maxSocketPorts)
		return
	}
	names := map[string]bool{}
	for i, p := range ports {
		at := path + "[" + strconv.Itoa(i) + "]"
		if k.Spoiled(at) {
			continue
		}
		if !mesh.ValidDiscoveryName(p.PortName) {
			k.Bad(at+".portName", "%s; allowed: 1 to 64 of [a-z0-9_-], not starting with '-'", strict.Quote(p.PortName))
		} else if names[p.PortName] {
			k.Bad(at+".portName", "%s stands twice; allowed: each once", strict.Quote(p.PortName))
		}
		names[p.PortName] = true
		if p.DiscoveryName != "" && !mesh.ValidDiscoveryName(p.DiscoveryName) {
			k.Bad(at+".discoveryName", "%s; allowed: 1 to 64 of [a-z0-9_-], not starting with '-', or absent for the port's name", strict.Quote(p.DiscoveryName))
		}
		k.oneOf(at+".protocol", p.Protocol, "http", "http2", "grpc", "tcp")
		if p.AppPort == 0 {
			k.Bad(at+".appPort", "is 0 or missing; allowed: 1 to 65535, where the application listens")
		}
		if p.Issuer != "" && !issuerForm.MatchString(p.Issuer) {
			k.Bad(at+".issuer", "%s; allowed: the name of an issuer, or absent for plain text", strict.Quote(p.Issuer))
		}
	}
}

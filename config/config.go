// Package config is the one YAML file of `patchbay serve`.
//
// It owns its form, its defaults ([Default]) and its rules. Other packages
// receive plain structs and never parse. It must not know any of them. Start
// reading at [Load].
package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Config is the whole file. Paths are relative to the file's directory when
// written, and absolute once loaded.
type Config struct {
	// TrustDomain is the SPIFFE trust domain of every identity of this mesh.
	TrustDomain string `yaml:"trustDomain"`
	// Namespaces are the Cloud Map namespaces to serve, by name.
	Namespaces []string `yaml:"namespaces"`
	// CreateNamespaces lets the control plane create a namespace (type HTTP)
	// that does not exist.
	CreateNamespaces bool `yaml:"createNamespaces"`
	// Data is the directory for the control channel's CA, identities, secrets,
	// the last known good of discovery, and the embedded registry.
	Data string `yaml:"data"`
	// Registry is the embedded registry; CloudMap the one to use instead.
	// Exactly one of the two.
	Registry *Registry         `yaml:"registry"`
	CloudMap *CloudMap         `yaml:"cloudMap"`
	XDS      XDS               `yaml:"xds"`
	Agent    Agent             `yaml:"agent"`
	Admin    Admin             `yaml:"admin"`
	Issuers  map[string]Issuer `yaml:"issuers"` // by name: a CA's ARN, or "default"
	Profile  string            `yaml:"profile"` // "live"
	Log      Log               `yaml:"log"`
}

// Registry is the embedded Cloud-Map-compatible server.
type Registry struct {
	Listen   string `yaml:"listen"`
	KeysFile string `yaml:"keysFile"` // access keys; needed off loopback
}

// CloudMap is AWS Cloud Map, or what speaks its protocol.
type CloudMap struct {
	Endpoint string `yaml:"endpoint"` // empty: AWS's own for the region
	Region   string `yaml:"region"`   // empty: as the AWS SDK finds it
}

// XDS is the port of the Envoys.
type XDS struct {
	Listen string `yaml:"listen"`
	Auth   string `yaml:"auth"` // "mtls", or "none" on loopback
}

// Agent is the port of the sidecar agents: enrolment and the agent stream.
type Agent struct {
	Listen string `yaml:"listen"`
}

// Admin is the operator's port.
type Admin struct {
	Listen    string `yaml:"listen"`
	TokenFile string `yaml:"tokenFile"` // empty: admin-token in the data directory, made at the first start
}

// Issuer is where certificates come from. Exactly one kind.
type Issuer struct {
	StepCA *StepCA `yaml:"stepCA"`
}

// StepCA is a smallstep authority with a JWK provisioner.
type StepCA struct {
	URL             string        `yaml:"url"`
	Fingerprint     string        `yaml:"fingerprint"` // SHA-256 of the root, hex
	FingerprintFile string        `yaml:"fingerprintFile"`
	Provisioner     string        `yaml:"provisioner"`
	PasswordFile    string        `yaml:"passwordFile"`
	Lifetime        time.Duration `yaml:"lifetime"` // of a leaf; at least one minute
}

// Log is what the process prints on standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text, json
}

// MinLeafLifetime leaves room for a renewal at 60 % of life and its retries.
const MinLeafLifetime = time.Minute

// Default is every default in one place.
func Default() Config {
	return Config{
		TrustDomain: "patchbay",
		Data:        "./data",
		XDS:         XDS{Listen: "0.0.0.0:18000", Auth: "mtls"},
		Agent:       Agent{Listen: "0.0.0.0:18001"},
		Admin:       Admin{Listen: "127.0.0.1:18002"},
		Profile:     "live",
		Log:         Log{Level: "info", Format: "text"},
	}
}

// Problem is one thing that is wrong with the file.
type Problem struct {
	File string
	Line int    // 0 when the thing is missing
	Path string // dotted, for example xds.listen
	Text string // what is wrong and what is allowed
}

func (p Problem) String() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s: %s", p.File, p.Path, p.Text)
	}
	return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Path, p.Text)
}

// Problems is everything that is wrong, in the order of the file.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Load reads and checks a file. An error is of type [Problems] unless the file
// can't be read.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, problems := parse(filepath.Base(path), text)
	if len(problems) > 0 {
		return Config{}, problems
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c.absolute(dir)
	return c, nil
}

// absolute makes every path relative to dir absolute.
func (c *Config) absolute(dir string) {
	paths := []*string{&c.Data, &c.Admin.TokenFile}
	if c.Registry != nil {
		paths = append(paths, &c.Registry.KeysFile)
	}
	for _, i := range c.Issuers {
		if i.StepCA != nil {
			paths = append(paths, &i.StepCA.FingerprintFile, &i.StepCA.PasswordFile)
		}
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// Loopback reports whether a listen address can be reached from this network
// namespace only.
func Loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	a, perr := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || perr == nil && a.IsLoopback())
}

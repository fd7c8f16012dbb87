// Package config is the one YAML file of `patchbay serve`.
//
// It owns its form, its defaults ([Default]) and its rules. Other packages
// receive plain structs and never parse. Of them it knows the forms of names in
// package mesh alone. Start reading at [Load].
package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"patchbay/internal/textfile"
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
	Registry *Registry `yaml:"registry"`
	CloudMap *CloudMap `yaml:"cloudMap"`
	// Replicas lets several control planes share the work; absent: there is one.
	Replicas *Replicas         `yaml:"replicas"`
	XDS      XDS               `yaml:"xds"`
	Agent    Agent             `yaml:"agent"`
	Admin    Admin             `yaml:"admin"`
	Issuers  map[string]Issuer `yaml:"issuers"` // by name: a CA's ARN, or "default"
	// MutualTLS is for services whose policy asks callers for a certificate.
	MutualTLS MutualTLS `yaml:"mutualTls"`
	Secrets   Secrets   `yaml:"secrets"`
	// Identities are the workloads that need no join key.
	Identities Identities `yaml:"identities"`
	// Tracing is where sidecars send spans; absent: nowhere.
	Tracing *Tracing `yaml:"tracing"`
	// External are targets outside the mesh that tasks call by an alias.
	External []External `yaml:"external"`
	Profile  string     `yaml:"profile"` // "live"
	Log      Log        `yaml:"log"`
}

// Registry is the embedded Cloud-Map-compatible server.
type Registry struct {
	Listen   string `yaml:"listen"`
	KeysFile string `yaml:"keysFile"` // access keys; needed off loopback
	// Lease is how long an instance lives after the last sign of its task; a
	// whole number of seconds, MinLease to MaxLease. Default: DefaultLease.
	Lease time.Duration `yaml:"lease"`
	// Etcd is where it keeps its records, which any number of replicas share;
	// nil: in the data directory.
	Etcd *Etcd `yaml:"etcd"`
}

// CloudMap is AWS Cloud Map, or what speaks its protocol.
type CloudMap struct {
	Endpoint string `yaml:"endpoint"` // empty: AWS's own for the region
	Region   string `yaml:"region"`   // empty: as the AWS SDK finds it
	// Lease is for a patchbay registry at Endpoint: as Registry.Lease, and the
	// registry's watch is followed. Zero, for AWS: neither.
	Lease time.Duration `yaml:"lease"`
	// OnlyControlPlane says that no other control plane uses the namespaces: a
	// task that ECS does not know and whose agent has not been connected for
	// ten minutes is then taken out.
	OnlyControlPlane bool `yaml:"onlyControlPlane"`
	// Namespaces says what one of Config.Namespaces is in Cloud Map, where its
	// name does not: an HttpName that is not a DNS name, an id or, for one that
	// another account shares, the ARN. By name in the mesh.
	Namespaces map[string]string `yaml:"namespaces"`
	// Events is a queue that tells of tasks, so that polling may be slow.
	Events *Events `yaml:"events"`
}

// Events is an Amazon SQS queue to which an EventBridge rule sends the state
// changes of ECS tasks. Each replica needs one of its own.
type Events struct {
	QueueURL string `yaml:"queueURL"`
	Region   string `yaml:"region"`   // empty: as the AWS SDK finds it
	Endpoint string `yaml:"endpoint"` // empty: AWS's own for the region
}

// Replicas is the port at which replicas of one control plane tell each other
// what they have seen.
type Replicas struct {
	Listen string `yaml:"listen"`
	// Advertise is the address, IP:PORT, that is written down for the others;
	// empty: Listen's, or that of the interface with the default route.
	Advertise string `yaml:"advertise"`
}

// XDS is the port of the Envoys.
type XDS struct {
	Listen string `yaml:"listen"`
	Auth   string `yaml:"auth"` // "mtls", or "none" on loopback
	LEDS   string `yaml:"leds"` // endpoints in collections: "off", "auto" or "on"
	// StateOfTheWorld also serves that variant of ADS: for gRPC clients without
	// a proxy, and Envoys that do not speak the incremental one.
	StateOfTheWorld bool `yaml:"stateOfTheWorld"`
	// Unix are sockets on which both variants are served to one workload each.
	Unix []Unix `yaml:"unix"`
}

// Agent is the port of the sidecar agents: enrolment and the agent stream.
type Agent struct {
	Listen string `yaml:"listen"`
	// ProxyProtocol lists the networks (CIDR) of load balancers that speak PROXY
	// protocol v2 on every connection; from elsewhere it is refused.
	ProxyProtocol []string `yaml:"proxyProtocol"`
}

// Admin is the operator's port.
type Admin struct {
	Listen string `yaml:"listen"`
	// TokenFile holds the token that callers off this machine must send for
	// everything; empty: admin-token in the data directory, made at the first
	// start.
	TokenFile string `yaml:"tokenFile"`
	// TLS is how the port is served; nil: plain HTTP.
	TLS *AdminTLS `yaml:"tls"`
}

// AdminTLS are PEM files of the operator's port.
type AdminTLS struct {
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
	// ClientCAFile has the CAs whose certificates stand for the token; empty:
	// the token is the only way.
	ClientCAFile string `yaml:"clientCAFile"`
}

// Issuer is where certificates come from. Exactly one kind.
type Issuer struct {
	StepCA    *StepCA    `yaml:"stepCA"`
	PrivateCA *PrivateCA `yaml:"privateCA"`
}

// MutualTLS says where the certificates come from that workloads call with.
type MutualTLS struct {
	// Issuer is the name of one of Issuers; empty: "default", or the only one.
	Issuer string `yaml:"issuer"`
}

// CallersIssuer is the name of the issuer of the certificates that workloads
// call with; empty: there is none.
func (c Config) CallersIssuer() string {
	if c.MutualTLS.Issuer != "" {
		return c.MutualTLS.Issuer
	}
	if _, ok := c.Issuers["default"]; ok {
		return "default"
	}
	if len(c.Issuers) == 1 {
		for name := range c.Issuers {
			return name
		}
	}
	return ""
}

// PrivateCA is one of AWS Private CA.
type PrivateCA struct {
	ARN      string        `yaml:"arn"`      // empty: the issuer's name is it
	Region   string        `yaml:"region"`   // empty: the ARN's
	Endpoint string        `yaml:"endpoint"` // empty: AWS's own for the region
	Template string        `yaml:"template"` // ARN; empty: EndEntityCertificate/V1
	Lifetime time.Duration `yaml:"lifetime"` // of a leaf, MinPrivateCALifetime to MaxLeafLifetime; 0: 7 days
	// AlsoTrust are ARNs of CAs that don't sign, but whose roots callers trust:
	// the one that will sign next, or the one that did before.
	AlsoTrust []string `yaml:"alsoTrust"`
}

// StepCA is a smallstep authority with a JWK provisioner.
type StepCA struct {
	URL             string        `yaml:"url"`
	Fingerprint     string        `yaml:"fingerprint"` // SHA-256 of the root, hex
	FingerprintFile string        `yaml:"fingerprintFile"`
	Provisioner     string        `yaml:"provisioner"`
	PasswordFile    string        `yaml:"passwordFile"`
	Lifetime        time.Duration `yaml:"lifetime"` // of a leaf, MinLeafLifetime to MaxLeafLifetime; 0: 24 h
}

// Secrets is where certificates and keys of services rest: sealed files in the
// data directory unless it says otherwise.
type Secrets struct {
	SecretsManager *SecretsManager `yaml:"secretsManager"`
	Etcd           *Etcd           `yaml:"etcd"`
	// SealKeyFile holds the key that seals them in files or in etcd: 32 bytes
	// in base64, mode 0600. Empty: beside the data, made on first use.
	SealKeyFile string `yaml:"sealKeyFile"`
}

// SecretsManager is that of AWS, which replicas share.
type SecretsManager struct {
	Region   string `yaml:"region"`   // empty: as the AWS SDK finds it
	Endpoint string `yaml:"endpoint"` // empty: AWS's own for the region
	Prefix   string `yaml:"prefix"`   // of every name; empty: ecs-sc/TRUSTDOMAIN/
	KMSKey   string `yaml:"kmsKey"`   // empty: aws/secretsmanager
}

// Log is what the process prints on standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text, json
}

// MinLeafLifetime leaves room for a renewal at 60 % of life and its retries;
// MaxLeafLifetime is what keeps certificates short-lived: there is no
// revocation.
const (
	MinLeafLifetime = time.Minute
	MaxLeafLifetime = 90 * 24 * time.Hour
)

// Agents give a sign every 5 s: a shorter lease would end by one that is late.
// The longest is the registry's.
const (
	MinLease     = 10 * time.Second
	MaxLease     = 24 * time.Hour
	DefaultLease = 15 * time.Second
)

// Default is every default in one place.
func Default() Config {
	return Config{
		TrustDomain: "patchbay",
		Data:        "./data",
		XDS:         XDS{Listen: "0.0.0.0:18000", Auth: "mtls", LEDS: "off"},
		Agent:       Agent{Listen: "0.0.0.0:18001"},
		Admin:       Admin{Listen: "127.0.0.1:18002"},
		Profile:     "live",
		Log:         Log{Level: "info", Format: "text"},
	}
}

// Load reads and checks a file. An error is of type strict.Problems unless the
// file can't be read.
func Load(path string) (Config, error) {
	text, _, err := textfile.Read(path, "a configuration")
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w; name the file with --config", err)
	}
	return load(path, text, filepath.Dir(path))
}

// Parse is Load for a text that is in no file. Its paths are relative to the
// working directory; name stands for the file in messages.
func Parse(name string, text []byte) (Config, error) { return load(name, text, ".") }

func load(name string, text []byte, dir string) (Config, error) {
	c, problems := parse(name, text)
	if len(problems) > 0 {
		return Config{}, problems
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	c.absolute(dir)
	return c, nil
}

// absolute makes every path relative to dir absolute.
func (c *Config) absolute(dir string) {
	paths := []*string{&c.Data, &c.Admin.TokenFile, &c.Secrets.SealKeyFile}
	if c.Registry != nil {
		paths = append(paths, &c.Registry.KeysFile)
		if c.Registry.Etcd != nil {
			paths = append(paths, c.Registry.Etcd.files()...)
		}
	}
	if c.Secrets.Etcd != nil {
		paths = append(paths, c.Secrets.Etcd.files()...)
	}
	if t := c.Admin.TLS; t != nil {
		paths = append(paths, &t.CertFile, &t.KeyFile, &t.ClientCAFile)
	}
	for i := range c.External {
		if t := c.External[i].TLS; t != nil {
			paths = append(paths, &t.CAFile)
		}
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

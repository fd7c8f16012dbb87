package config

import (
	"regexp"
	"strings"

	"patchbay/config/strict"
)

// Etcd is an etcd cluster, version 3.4 or newer, and a place in it.
type Etcd struct {
	Endpoints []string `yaml:"endpoints"` // URLs of members
	Prefix    string   `yaml:"prefix"`    // of every key; ends with a slash
	// CAFile verifies members with https URLs (empty: the system's roots);
	// CertFile and KeyFile are the client's certificate.
	CAFile   string `yaml:"caFile"`
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
	// User is one of etcd's, where the certificate does not name one.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"passwordFile"`
}

// Where the registry and secrets are in etcd unless the file says otherwise.
const (
	RegistryPrefix = "/patchbay/registry/"
	SecretsPrefix  = "/patchbay/secrets/"
)

var etcdPrefix = regexp.MustCompile(`^[A-Za-z0-9/_.=@-]{0,199}/$`)

func (e *Etcd) files() []*string {
	return []*string{&e.CAFile, &e.CertFile, &e.KeyFile, &e.PasswordFile}
}

// etcd holds e, whose settings are beneath at, against what is allowed.
func (k *checker) etcd(at string, e *Etcd) {
	if len(e.Endpoints) == 0 {
		k.Bad(at+".endpoints", "is missing; allowed: a list of URLs of etcd's members, such as [http://127.0.0.1:2379]")
	}
	secure := 0
	for _, u := range e.Endpoints {
		k.url(at+".endpoints", u, "http", "https")
		if strings.HasPrefix(u, "https://") {
			secure++
		}
	}
	if !etcdPrefix.MatchString(e.Prefix) {
		k.Bad(at+".prefix", "%s; allowed: up to 200 of [A-Za-z0-9/_.=@-] and a slash at the end, such as /patchbay/prod/", strict.Quote(e.Prefix))
	}
	if (e.CertFile == "") != (e.KeyFile == "") {
		k.Bad(at+".certFile", "and %s.keyFile go together; allowed: both or none", at)
	}
	if (e.User == "") != (e.PasswordFile == "") {
		k.Bad(at+".user", "and %s.passwordFile go together; allowed: both or none", at)
	}
	if secure == 0 && e.CAFile+e.CertFile != "" {
		k.Bad(at+".caFile", "or certFile stands beside endpoints without TLS; allowed: endpoints that start with https://, or no files")
	}
	if secure > 0 && secure < len(e.Endpoints) {
		k.Bad(at+".endpoints", "some have TLS and some have not; allowed: all http:// or all https://")
	}
}

// Problems lists what is wrong with e, where no file has set it.
func (e *Etcd) Problems() (out []string) {
	k := &checker{&strict.Document{}}
	k.etcd("", e)
	for _, p := range k.Problems() {
		out = append(out, strings.TrimPrefix(p.Path, ".")+" "+p.Text)
	}
	return out
}

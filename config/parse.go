package config

import (
	"cmp"
	"strconv"

	"patchbay/config/strict"
)

// parse decodes strictly, and checks what could be.
func parse(file string, text []byte) (Config, strict.Problems) {
	c := Default()
	doc, ok := strict.Read(file, text, &c, "namespaces: [demo]")
	if !ok {
		return c, doc.Problems()
	}
	k := &checker{doc}
	if k.Written("cloudMap") && c.CloudMap == nil && !k.Spoiled("cloudMap") {
		c.CloudMap = &CloudMap{} // `cloudMap:` alone: all defaults
	}
	if c.Registry != nil && !k.Written("registry.lease") {
		c.Registry.Lease = DefaultLease
	}
	if c.Registry != nil && c.Registry.Etcd != nil {
		c.Registry.Etcd.Prefix = cmp.Or(c.Registry.Etcd.Prefix, RegistryPrefix)
	}
	if c.Secrets.Etcd != nil {
		c.Secrets.Etcd.Prefix = cmp.Or(c.Secrets.Etcd.Prefix, SecretsPrefix)
	}
	for name, i := range c.Issuers {
		if at := "issuers." + name + ".privateCA"; k.Written(at) && i.PrivateCA == nil && !k.Spoiled(at) {
			i.PrivateCA = &PrivateCA{} // `privateCA:` alone, of an issuer whose name is the ARN
			c.Issuers[name] = i
		}
	}
	if c.Tracing != nil && !k.Written("tracing.sampling") {
		c.Tracing.Sampling = allSampled
	}
	for i := range c.External {
		if at := "external[" + strconv.Itoa(i) + "].tls"; k.Written(at) && c.External[i].TLS == nil && !k.Spoiled(at) {
			c.External[i].TLS = &ExternalTLS{} // `tls:` alone: all defaults
		}
	}
	if at := "secrets.secretsManager"; k.Written(at) && c.Secrets.SecretsManager == nil && !k.Spoiled(at) {
		c.Secrets.SecretsManager = &SecretsManager{}
	}
	k.check(c)
	return c, k.Problems()
}

// checker holds a file against the rules.
type checker struct{ *strict.Document }

package config

import (
	"cmp"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/config/strict"
)

// privateCAForm is the ARN of an AWS private CA.
var privateCAForm = regexp.MustCompile(`^arn:aws[a-z-]*:acm-pca:[a-z0-9-]+:[0-9]{12}:certificate-authority/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func (k *checker) issuer(name string, i Issuer) {
	path := "issuers." + name
	if !issuerForm.MatchString(name) {
		k.Bad(path, "is no name of an issuer; allowed: default, another name, or the ARN of a private CA: up to 255 of [A-Za-z0-9:/_.-]")
	}
	switch {
	case k.Spoiled(path+".stepCA") || k.Spoiled(path+".privateCA"):
	case i.StepCA == nil && i.PrivateCA == nil:
		k.Bad(path, "says no kind; allowed: `stepCA: {url: …, fingerprint: …, provisioner: …, passwordFile: …}` or `privateCA: {arn: …}`")
	case i.StepCA != nil && i.PrivateCA != nil:
		k.Bad(path+".privateCA", "stands beside stepCA; allowed: one of the two, since an issuer is one CA")
	}
	if i.StepCA != nil {
		k.stepCA(path+".stepCA", i.StepCA)
	}
	if i.PrivateCA != nil {
		k.privateCA(path+".privateCA", name, i.PrivateCA)
	}
}

func (k *checker) stepCA(at string, s *StepCA) {
	k.url(at+".url", s.URL, "https")
	switch {
	case k.Spoiled(at+".fingerprint") || k.Spoiled(at+".fingerprintFile"):
	case (s.Fingerprint == "") == (s.FingerprintFile == ""):
		k.Bad(at+".fingerprint", "allowed: exactly one of fingerprint and fingerprintFile")
	case s.Fingerprint != "":
		if b, err := hex.DecodeString(s.Fingerprint); err != nil || len(b) != 32 {
			k.Bad(at+".fingerprint", "%s; allowed: 64 hex digits, the SHA-256 of the CA's root certificate", strict.Quote(s.Fingerprint))
		}
	}
	if s.Provisioner == "" {
		k.Bad(at+".provisioner", "is missing; allowed: the name of a JWK provisioner")
	}
	if s.PasswordFile == "" {
		k.Bad(at+".passwordFile", "is missing; allowed: a file with the provisioner's password")
	}
	if s.Lifetime != 0 && (s.Lifetime < MinLeafLifetime || s.Lifetime > MaxLeafLifetime) {
		k.Bad(at+".lifetime", "%v; allowed: 1m to 2160h, or absent for 24h", s.Lifetime)
	}
}

func (k *checker) privateCA(at, name string, p *PrivateCA) {
	switch {
	case p.ARN == "" && !privateCAForm.MatchString(name):
		k.Bad(at+".arn", "is missing, and the issuer's name is not an ARN; allowed: arn:aws:acm-pca:REGION:ACCOUNT:certificate-authority/UUID")
	case p.ARN != "" && !privateCAForm.MatchString(p.ARN):
		k.Bad(at+".arn", "%s; allowed: arn:aws:acm-pca:REGION:ACCOUNT:certificate-authority/UUID", strict.Quote(p.ARN))
	}
	for i, arn := range p.AlsoTrust {
		if !privateCAForm.MatchString(arn) || arn == cmp.Or(p.ARN, name) {
			k.Bad(at+".alsoTrust["+strconv.Itoa(i)+"]", "%s; allowed: the ARN of another private CA", strict.Quote(arn))
		}
	}
	if p.Endpoint != "" {
		k.url(at+".endpoint", p.Endpoint, "http", "https")
	}
	if p.Template != "" && !strings.Contains(p.Template, ":acm-pca:::template/") {
		k.Bad(at+".template", "%s; allowed: the ARN of a template, such as arn:aws:acm-pca:::template/EndEntityCertificate/V1, or absent for that one", strict.Quote(p.Template))
	}
	if p.Lifetime != 0 && (p.Lifetime < MinPrivateCALifetime || p.Lifetime > MaxLeafLifetime) {
		k.Bad(at+".lifetime", "%v; allowed: 1h to 2160h, or absent for seven days: each certificate is paid for", p.Lifetime)
	}
}

// MinPrivateCALifetime bounds the bill of AWS Private CA.
const MinPrivateCALifetime = time.Hour

// secretPrefix is what may come before names in Secrets Manager.
var secretPrefix = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{0,200}/$`)

func (k *checker) secrets(c Config) {
	s := c.Secrets.SecretsManager
	if e := c.Secrets.Etcd; e != nil {
		k.etcd("secrets.etcd", e)
		if c.Secrets.SealKeyFile == "" {
			k.Bad("secrets.sealKeyFile", "is missing, but replicas share secrets.etcd; allowed: a file with the same key on each of them, mode 0600; make one with: openssl rand -base64 32")
		}
		if s != nil {
			k.Bad("secrets.etcd", "stands beside secretsManager; allowed: one of the two")
		}
	}
	if s == nil {
		return
	}
	if c.Secrets.SealKeyFile != "" {
		k.Bad("secrets.sealKeyFile", "stands beside secretsManager, which seals by KMS; allowed: secretsManager.kmsKey")
	}
	if s.Endpoint != "" {
		k.url("secrets.secretsManager.endpoint", s.Endpoint, "http", "https")
	}
	if s.Prefix != "" && !secretPrefix.MatchString(s.Prefix) {
		k.Bad("secrets.secretsManager.prefix", "%s; allowed: up to 200 of [A-Za-z0-9/_+=.@-] and a slash at the end, such as ecs-sc/prod/", strict.Quote(s.Prefix))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Issuers)) {
		if i := c.Issuers[name].StepCA; i != nil && i.Lifetime >= MinLeafLifetime && i.Lifetime < time.Hour {
			k.Bad("issuers."+name+".stepCA.lifetime", "%v, but secrets.secretsManager takes one change of a secret in half an hour; allowed with it: 1h to 2160h", i.Lifetime)
		}
	}
}

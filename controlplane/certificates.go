package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"patchbay/config"
	"patchbay/internal/etcdclient"
	"patchbay/mesh"
	"patchbay/pki"
	"patchbay/pki/issue"
	"patchbay/pki/privateca"
	"patchbay/pki/secret"
	"patchbay/pki/secret/secretsmanager"
	"patchbay/pki/stepca"
	"patchbay/xds/delta"
	"patchbay/xds/translate"
)

func (c *control) buildCertificates(ctx context.Context) error {
	issuers := map[string]issue.Issuer{}
	for name, i := range c.cfg.Issuers {
		ca, err := c.issuer(ctx, name, i)
		if err != nil {
			return fmt.Errorf("issuer %s: %w", name, err)
		}
		issuers[name] = ca
	}
	o := pki.RotatorOptions{TrustDomain: c.cfg.TrustDomain, CallersIssuer: c.cfg.CallersIssuer(), Audit: c.audit.Record, KMSKeys: c.cfg.Secrets.SecretsManager != nil, Unacked: c.unacked}
	if c.cfg.Secrets.SecretsManager != nil || c.cfg.Secrets.Etcd != nil {
		o.TrustLead = sharedTrustLead
	}
	if c.replicas != nil {
		o.Stored, o.Self, o.Gone = c.replicas.Stored, c.replicas.Self(), c.replicas.Gone
	}
	c.rotator = pki.NewRotator(c.store, issuers, c.vault, o, c.log)
	return nil
}

// sharedTrustLead is how long a new root is published before it may sign, where
// there are replicas: each asks the issuers every minute, and knows the answers
// of its own nodes only.
const sharedTrustLead = 2*time.Minute + 10*time.Second

// unacked names the connected nodes that have not accepted an issuer's newest
// bundle.
func (c *control) unacked(issuer string) []string {
	if c.cache == nil { // nothing is served yet
		return nil
	}
	return c.cache.Unacked(delta.SecretType, translate.BundleSecret(issuer))
}

// brief makes a leaf for `patchbay fault expire`.
func (c *control) brief(ctx context.Context, name mesh.ServiceName, life time.Duration) (*mesh.Leaf, error) {
	return c.rotator.Brief(ctx, name, life, "patchbay fault expire")
}

// secrets is where certificates rest.
func (c *control) secrets(ctx context.Context) (secret.Store, error) {
	if e := c.cfg.Secrets.Etcd; e != nil {
		client, guide, err := etcdclient.Connect(ctx, etcdclient.Options(*e), c.log)
		if err != nil {
			return nil, fmt.Errorf("secrets.etcd: %w", err)
		}
		return secret.NewEtcd(secret.EtcdOptions{Client: client, Prefix: e.Prefix, KeyFile: c.cfg.Secrets.SealKeyFile, Explain: guide.Explain}), nil
	}
	s := c.cfg.Secrets.SecretsManager
	if s == nil {
		return secret.NewFile(secret.FileOptions{Dir: filepath.Join(c.cfg.Data, "secrets"), KeyFile: c.cfg.Secrets.SealKeyFile}), nil
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithAppID("patchbay"))
	if err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", err)
	}
	store, err := secretsmanager.New(cfg, secretsmanager.Options{
		Region: s.Region, Endpoint: s.Endpoint, KMSKey: s.KMSKey, Prefix: c.secretPrefix(),
		Tags: map[string]string{"patchbay:trust-domain": c.cfg.TrustDomain},
	})
	if err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	return store, nil
}

// secretPrefix begins the names of our secrets in Secrets Manager; empty: they
// are elsewhere.
func (c *control) secretPrefix() string {
	if c.cfg.Secrets.SecretsManager == nil {
		return ""
	}
	return cmp.Or(c.cfg.Secrets.SecretsManager.Prefix, "ecs-sc/"+c.cfg.TrustDomain+"/")
}

func (c *control) issuer(ctx context.Context, name string, i config.Issuer) (issue.Issuer, error) {
	if s := i.StepCA; s != nil {
		return stepca.New(stepca.Options{
			URL: s.URL, Fingerprint: s.Fingerprint, FingerprintFile: s.FingerprintFile,
			Provisioner: s.Provisioner, PasswordFile: s.PasswordFile, Lifetime: s.Lifetime,
		})
	}
	p := i.PrivateCA
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithAppID("patchbay"))
	if err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", err)
	}
	return privateca.New(cfg, privateca.Options{
		ARN: cmp.Or(p.ARN, name), Region: p.Region, Endpoint: p.Endpoint, Template: p.Template, Lifetime: p.Lifetime, AlsoTrust: p.AlsoTrust, Log: c.log,
	})
}

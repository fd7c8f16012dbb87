package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"patchbay/config"
	"patchbay/pki"
	"patchbay/pki/privateca"
	"patchbay/pki/secret"
	"patchbay/pki/secret/secretsmanager"
	"patchbay/pki/stepca"
)

func (c *control) buildCertificates(ctx context.Context) error {
	issuers := map[string]pki.Issuer{}
	for name, i := range c.cfg.Issuers {
		ca, err := c.issuer(ctx, name, i)
		if err != nil {
			return fmt.Errorf("issuer %s: %w", name, err)
		}
		issuers[name] = ca
	}
	secrets, err := c.secrets(ctx)
	if err != nil {
		return err
	}
	c.rotator = pki.NewRotator(c.store, issuers, secrets, pki.RotatorOptions{TrustDomain: c.cfg.TrustDomain, Audit: c.audit.Record}, c.log)
	return nil
}

// secrets is where certificates rest.
func (c *control) secrets(ctx context.Context) (secret.Store, error) {
	s := c.cfg.Secrets.SecretsManager
	if s == nil {
		return secret.NewFile(secret.FileOptions{Dir: filepath.Join(c.cfg.Data, "secrets")}), nil
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithAppID("patchbay"))
	if err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", err)
	}
	store, err := secretsmanager.New(cfg, secretsmanager.Options{
		Region: s.Region, Endpoint: s.Endpoint, KMSKey: s.KMSKey, Prefix: cmp.Or(s.Prefix, "ecs-sc/"+c.cfg.TrustDomain+"/"),
		Tags: map[string]string{"patchbay:trust-domain": c.cfg.TrustDomain},
	})
	if err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	return store, nil
}

func (c *control) issuer(ctx context.Context, name string, i config.Issuer) (pki.Issuer, error) {
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
		ARN: cmp.Or(p.ARN, name), Region: p.Region, Endpoint: p.Endpoint, Template: p.Template, Lifetime: p.Lifetime, Log: c.log,
	})
}

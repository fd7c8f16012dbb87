package controlplane

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"golang.org/x/sync/errgroup"

	"patchbay/config"
	"patchbay/registry"
	"patchbay/registry/host"
	regmetrics "patchbay/registry/metrics"
	"patchbay/registry/sigv4"
)

// startRegistry runs the embedded registry, if there is one.
func (c *control) startRegistry(ctx context.Context, g *errgroup.Group) error {
	if c.cfg.Registry == nil {
		return nil
	}
	o := registry.Options{Log: c.log, Metrics: regmetrics.New(c.metrics)}
	// Without keys the registry asks for no credentials, but the SDK signs in
	// any case. With keys we have one of our own, for as long as we live.
	c.registryKey = aws.Credentials{AccessKeyID: "patchbay-serve-" + rand.Text(), SecretAccessKey: rand.Text()}
	if file := c.cfg.Registry.KeysFile; file != "" {
		keys, err := sigv4.LoadKeys(file)
		if err != nil {
			return &config.Wrong{Err: fmt.Errorf("registry.keysFile: %w", err)}
		}
		keys[c.registryKey.AccessKeyID] = sigv4.Key{Secret: c.registryKey.SecretAccessKey}
		o.Keys = keys
	}
	in, err := host.Store(ctx, c.cfg.Data, c.cfg.Registry.Etcd, c.log)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	r, err := host.Open(ctx, "registry.listen", c.cfg.Registry.Listen, in, o)
	if err != nil {
		return err
	}
	c.registryURL, r.Before = r.URL, c.faults.Registry
	g.Go(func() error { return r.Run(ctx) })
	return nil
}

// registryClient is how the registry is reached: its endpoint (empty for
// AWS's own) and credentials.
func (c *control) registryClient(ctx context.Context) (endpoint string, cfg aws.Config, err error) {
	if c.cfg.Registry != nil {
		key := c.registryKey
		return c.registryURL, aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, "")}, nil
	}
	if cfg, err = awsconfig.LoadDefaultConfig(ctx, awsconfig.WithAppID("patchbay")); err != nil {
		return "", cfg, fmt.Errorf("AWS configuration: %w", err)
	}
	if c.cfg.CloudMap.Region != "" {
		cfg.Region = c.cfg.CloudMap.Region
	}
	if c.cfg.CloudMap.Lease > 0 { // a patchbay registry takes any
		cfg.Region = cmp.Or(cfg.Region, "us-east-1")
	}
	return c.cfg.CloudMap.Endpoint, cfg, nil
}

// lease is how long an instance lives without a sign of its task; zero where
// the registry has no leases.
func (c *control) lease() time.Duration {
	if c.cfg.Registry != nil {
		return c.cfg.Registry.Lease
	}
	return c.cfg.CloudMap.Lease
}

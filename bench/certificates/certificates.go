// Package certificates measures how fast many services get their certificates
// from an AWS Private CA that gives 25 a second, and how many a race of replicas
// costs. The control plane's parts are the real ones, with the unmodified SDK;
// AWS is the stand-in that enforces its documented rates.
//
// It must not know how a rotator decides what to do. Start reading at [Job].
package certificates

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"patchbay/bench"
	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/secrets"
	"patchbay/internal/awsfake/wire"
	"patchbay/mesh"
	"patchbay/pki"
	"patchbay/pki/issue"
	"patchbay/pki/privateca"
	"patchbay/pki/secret/secretsmanager"
)

// rate is Private CA's quota of IssueCertificate: 25 a second in an account and
// region (L-CAFB4993).
const rate = 25

// Job is the part of make bench.
var Job = bench.FromRows("certificates", "Certificates from AWS Private CA",
	"Three hundred services without a certificate before a stand-in of AWS Private CA and Secrets Manager that keeps AWS's quotas (25 certificates a second; 50 writes of secrets a second) and is asked by the unmodified SDK over HTTP. "+
		"Cold start: one control plane; the time until the last service has its certificate, stored and published, over the time that the CA's quota alone takes. "+
		"Race: five control planes start at once over the same CA and the same Secrets Manager, which shows what was written 300 ms late.",
	5*time.Minute, measure)

func measure(ctx context.Context, o bench.Options) ([]bench.Row, error) {
	n := o.Rounds(300, 25)
	scenario := fmt.Sprintf("%d services", n)
	rows := []bench.Row{
		{Variant: "cold start", Metric: "time over that of the CA's quota", Unit: "×", Goal: "cold start over the time of the CA's quota", Limit: 1.3},
		{Variant: "cold start", Metric: "time", Unit: "s"},
		{Variant: "cold start", Metric: "certificates issued"},
		{Variant: "cold start", Metric: "calls throttled"},
		{Variant: "race of five", Metric: "certificates issued", Goal: "certificates that a race of five issues", Limit: float64(n)},
		{Variant: "race of five", Metric: "services that replicas disagree about", Goal: "services without the same certificate on all five", Limit: 0},
		{Variant: "race of five", Metric: "time over that of the CA's quota", Unit: "×"},
		{Variant: "race of five", Metric: "time", Unit: "s"},
		{Variant: "race of five", Metric: "calls throttled"},
	}
	for i := range rows {
		rows[i].Scenario = scenario
	}
	add := func(at int, values ...float64) {
		for i, v := range values {
			rows[at+i].Values = append(rows[at+i].Values, v)
		}
	}
	theory := float64(n) / rate
	for range o.Rounds(3, 1) {
		o.Say("a cold start of %d services", n)
		cold, err := start(ctx, 1, n)
		if err != nil {
			return nil, err
		}
		add(0, cold.took.Seconds()/theory, cold.took.Seconds(), float64(cold.issued), float64(cold.throttled))
		o.Say("a race of five for %d services", n)
		race, err := start(ctx, 5, n)
		if err != nil {
			return nil, err
		}
		add(4, float64(race.issued), float64(race.different), race.took.Seconds()/theory, race.took.Seconds(), float64(race.throttled))
	}
	return rows, nil
}

// outcome is what became of a start.
type outcome struct {
	took      time.Duration // until the last replica had the last certificate
	issued    int           // by the CA
	throttled int           // calls of any kind
	different int           // services that not all replicas have the same certificate of
}

// start has replicas without anything get certificates for n services.
func start(ctx context.Context, replicas, n int) (outcome, error) {
	ca := pca.New(pca.Options{Polls: 1})
	arn, err := ca.Make(pca.Spec{ShortLived: true})
	if err != nil {
		return outcome{}, err
	}
	cloud := wire.New(wire.Options{}, ca.API(), secrets.New(secrets.Options{Lag: 300 * time.Millisecond}).API())
	h := httptest.NewServer(cloud)
	defer h.Close()

	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer func() { stop(); running.Wait() }()
	stores := make([]*mesh.Store, replicas)
	began := time.Now()
	for i := range stores {
		stores[i] = mesh.NewStore()
		stores[i].SetServices("prod", services(n))
		r, err := rotator(h.URL, arn, stores[i])
		if err != nil {
			return outcome{}, err
		}
		running.Go(func() { _ = r.Run(ctx) }) // ends with its context
	}
	for _, s := range stores {
		if err := covered(ctx, s, n); err != nil {
			return outcome{}, err
		}
	}
	out := outcome{took: time.Since(began), issued: ca.Issued(arn), throttled: cloud.Throttled()}
	first := stores[0].Snapshot().Leaves
	for name, l := range first {
		for _, s := range stores[1:] {
			if s.Snapshot().Leaves[name].Serial != l.Serial {
				out.different++
				break
			}
		}
	}
	return out, nil
}

// rotator is that of a control plane over AWS at url.
func rotator(url, arn string, store *mesh.Store) (*pki.Rotator, error) {
	cfg := aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("patchbay", "secret", "")}
	ca, err := privateca.New(cfg, privateca.Options{ARN: arn, Endpoint: url})
	if err != nil {
		return nil, err
	}
	kept, err := secretsmanager.New(cfg, secretsmanager.Options{Endpoint: url, Prefix: "ecs-sc/mesh/", Timeout: 30 * time.Second})
	if err != nil {
		return nil, err
	}
	return pki.NewRotator(store, map[string]issue.Issuer{"default": ca}, kept, pki.RotatorOptions{TrustDomain: "mesh.test"}, slog.New(slog.DiscardHandler)), nil
}

// covered waits until n services have a certificate.
func covered(ctx context.Context, store *mesh.Store, n int) error {
	for {
		snap := store.Snapshot()
		if len(snap.Leaves) >= n {
			return nil
		}
		select {
		case <-store.Changed(snap.Generation):
		case <-ctx.Done():
			return fmt.Errorf("%d of %d certificates: %w", len(snap.Leaves), n, context.Cause(ctx))
		}
	}
}

func services(n int) []*mesh.Service {
	out := make([]*mesh.Service, n)
	for i := range out {
		out[i] = &mesh.Service{Name: mesh.ServiceName{Namespace: "prod", DiscoveryName: fmt.Sprintf("s%03d", i)}, Protocol: mesh.HTTP, TLS: &mesh.ServiceTLS{Issuer: "default"}}
	}
	return out
}

package answers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/acmpca"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"patchbay/admin"
	"patchbay/admin/api"
	"patchbay/discovery/cloud"
	"patchbay/rehearse"
)

// rehearseEvery is how long an answer of AWS is given again.
const rehearseEvery = 10 * time.Second

// rehearsal is the newest answer.
type rehearsal struct {
	mu   sync.Mutex
	last *api.AWS
}

// awsQuery tries the calls that the control plane makes of AWS.
func (s *Source) awsQuery(ctx context.Context, _ url.Values) (any, error) {
	s.rehearsal.mu.Lock()
	defer s.rehearsal.mu.Unlock()
	if l := s.rehearsal.last; l != nil && time.Since(l.At) < rehearseEvery {
		return l, nil
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithAppID("patchbay"), awsconfig.WithRetryMaxAttempts(1))
	if err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", err)
	}
	calls, names := s.calls(ctx, cfg)
	if !calls.Any() {
		return nil, admin.Invalid{Err: errors.New("nothing of this control plane's configuration is on AWS: its registry, issuers and secrets are elsewhere")}
	}
	s.rehearsal.last = &api.AWS{At: time.Now(), Calls: calls.Try(ctx), Names: names}
	return s.rehearsal.last, nil
}

// calls are those that the configuration leads to, and the registry's host
// names.
func (s *Source) calls(ctx context.Context, cfg aws.Config) (rehearse.Calls, map[string]string) {
	var out rehearse.Calls
	names := map[string]string{}
	if m := s.Config.CloudMap; m != nil {
		here := cfg.Copy()
		here.Region = cmp.Or(m.Region, cfg.Region)
		if m.Lease > 0 {
			here.Region = cmp.Or(here.Region, "us-east-1")
		}
		out.CloudMap, out.Namespaces, out.Create = cloud.NewClient(here, cloud.ClientOptions{Endpoint: m.Endpoint}), s.Config.Namespaces, s.Config.CreateNamespaces
		names = rehearse.Names(ctx, m.Endpoint, here.Region)
		if m.Events != nil {
			out.Queue = m.Events.QueueURL
		}
	}
	for name, i := range s.Config.Issuers {
		p := i.PrivateCA
		if p == nil {
			continue
		}
		arn := cmp.Or(p.ARN, name)
		out.CAs = append(out.CAs, rehearse.CA{ARN: arn, Client: acmpca.NewFromConfig(cfg, func(o *acmpca.Options) {
			o.Region = cmp.Or(p.Region, rehearse.RegionOf(arn), o.Region)
			o.BaseEndpoint = nonEmpty(p.Endpoint, o.BaseEndpoint)
		})})
	}
	if m := s.Config.Secrets.SecretsManager; m != nil {
		out.Prefix, out.KMSKey = s.SecretPrefix, m.KMSKey
		out.Secrets = secretsmanager.NewFromConfig(cfg, func(o *secretsmanager.Options) {
			o.Region, o.BaseEndpoint = cmp.Or(m.Region, o.Region), nonEmpty(m.Endpoint, o.BaseEndpoint)
		})
	}
	if t := s.Config.Identities.TaskRoles; t != nil {
		for _, w := range t.Workloads {
			if !slices.Contains(out.Clusters, w.Cluster) {
				out.Clusters = append(out.Clusters, w.Cluster)
			}
		}
		out.Tasks = ecs.NewFromConfig(cfg, func(o *ecs.Options) {
			o.Region, o.BaseEndpoint = cmp.Or(t.Region, o.Region), nonEmpty(t.ECSEndpoint, o.BaseEndpoint)
		})
	}
	if i := s.Config.Identities.InstanceRoles; i != nil {
		out.Instances = ec2.NewFromConfig(cfg, func(o *ec2.Options) {
			o.Region, o.BaseEndpoint = cmp.Or(i.Region, o.Region), nonEmpty(i.EC2Endpoint, o.BaseEndpoint)
		}).DescribeInstances
	}
	return out, names
}

func nonEmpty(s string, otherwise *string) *string {
	if s == "" {
		return otherwise
	}
	return &s
}

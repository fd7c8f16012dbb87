package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/pires/go-proxyproto"

	"patchbay/config"
	"patchbay/identity/join"
	"patchbay/identity/taskrole"
	"patchbay/mesh"
)

// byRole lets tasks and instances join by their AWS role, if the file names
// any.
func (c *control) byRole(ctx context.Context) error {
	for _, kind := range []func(context.Context) (*taskrole.Kind, error){c.taskRoles, c.instanceRoles} {
		k, err := kind(ctx)
		if err != nil {
			return err
		}
		if k != nil {
			c.roles = append(c.roles, k)
		}
	}
	c.enrolment.ByRole(c.roles)
	return nil
}

// rolesIn is the AWS configuration of roles in a region, which key of the file
// may name.
func rolesIn(ctx context.Context, region, key string) (aws.Config, error) {
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithAppID("patchbay"))
	if err != nil {
		return cfg, fmt.Errorf("AWS configuration: %w", err)
	}
	if cfg.Region = cmp.Or(region, cfg.Region); cfg.Region == "" {
		return cfg, &config.Wrong{Err: fmt.Errorf("identities.%s.region: is missing, and the environment names no AWS region; allowed: the region of those who join, such as eu-west-1", key)}
	}
	return cfg, nil
}

// verifier checks proofs with the STS of a region.
func (c *control) verifier(region, endpoint string) *taskrole.Verifier {
	return taskrole.NewVerifier(join.Audience(c.cfg.TrustDomain), region, endpoint)
}

// workload is one that the file names.
func workload(namespace, name string, discoveryNames []string) mesh.Workload {
	return mesh.Workload{Namespace: strings.ToLower(namespace), Name: name, DiscoveryNames: discoveryNames}
}

// taskRoles is nil if the file names none.
func (c *control) taskRoles(ctx context.Context) (*taskrole.Kind, error) {
	t := c.cfg.Identities.TaskRoles
	if t == nil {
		return nil, nil //nolint:nilnil // none is an answer
	}
	cfg, err := rolesIn(ctx, t.Region, "taskRoles")
	if err != nil {
		return nil, err
	}
	var roles []taskrole.Role
	for _, w := range t.Workloads {
		roles = append(roles, taskrole.Role{
			Workload: workload(w.Namespace, w.Workload, w.DiscoveryNames), ARN: w.Role, Cluster: w.Cluster, Service: cmp.Or(w.Service, w.Workload),
		})
	}
	api := ecs.NewFromConfig(cfg, func(o *ecs.Options) {
		if t.ECSEndpoint != "" {
			o.BaseEndpoint = &t.ECSEndpoint
		}
	})
	return taskrole.Tasks(c.verifier(cfg.Region, t.STSEndpoint), api, roles), nil
}

// instanceRoles is nil if the file names none.
func (c *control) instanceRoles(ctx context.Context) (*taskrole.Kind, error) {
	i := c.cfg.Identities.InstanceRoles
	if i == nil {
		return nil, nil //nolint:nilnil // none is an answer
	}
	cfg, err := rolesIn(ctx, i.Region, "instanceRoles")
	if err != nil {
		return nil, err
	}
	var roles []taskrole.Role
	for _, w := range i.Workloads {
		roles = append(roles, taskrole.Role{Workload: workload(w.Namespace, w.Workload, w.DiscoveryNames), ARN: w.Role, InstanceProfile: w.InstanceProfile})
	}
	api := ec2.NewFromConfig(cfg, func(o *ec2.Options) {
		if i.EC2Endpoint != "" {
			o.BaseEndpoint = &i.EC2Endpoint
		}
	})
	return taskrole.Instances(c.verifier(cfg.Region, i.STSEndpoint), api.DescribeInstances, roles), nil
}

// clients are the connections of agents, with their own addresses also where a
// load balancer passes them on.
func (c *control) clients(l net.Listener) net.Listener {
	if len(c.cfg.Agent.ProxyProtocol) == 0 {
		return l
	}
	var trusted []netip.Prefix
	for _, n := range c.cfg.Agent.ProxyProtocol {
		trusted = append(trusted, netip.MustParsePrefix(n)) // checked when the file was read
	}
	return &proxyproto.Listener{
		Listener: l, ReadHeaderTimeout: 5 * time.Second,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			from, err := netip.ParseAddrPort(o.Upstream.String())
			if err == nil && slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(from.Addr().Unmap()) }) {
				return proxyproto.REQUIRE, nil
			}
			return proxyproto.REJECT, nil
		},
	}
}

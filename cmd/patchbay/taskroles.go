package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/pires/go-proxyproto"

	"patchbay/identity/join"
	"patchbay/identity/taskrole"
	"patchbay/mesh"
)

// byRole lets tasks join by their AWS role, if the file names any.
func (c *control) byRole(ctx context.Context) error {
	t := c.cfg.Identities.TaskRoles
	if t == nil {
		return nil
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithAppID("patchbay"))
	if err != nil {
		return fmt.Errorf("AWS configuration: %w", err)
	}
	if cfg.Region = cmp.Or(t.Region, cfg.Region); cfg.Region == "" {
		return &exitError{exitUsage, errors.New("identities.taskRoles.region: is missing, and the environment names no AWS region; allowed: the region of the tasks, such as eu-west-1")}
	}
	var roles []taskrole.Role
	for _, w := range t.Workloads {
		roles = append(roles, taskrole.Role{
			Workload: mesh.Workload{Namespace: strings.ToLower(w.Namespace), Name: w.Workload, DiscoveryNames: w.DiscoveryNames},
			ARN:      w.Role, Cluster: w.Cluster, Service: cmp.Or(w.Service, w.Workload),
		})
	}
	api := ecs.NewFromConfig(cfg, func(o *ecs.Options) {
		if t.ECSEndpoint != "" {
			o.BaseEndpoint = &t.ECSEndpoint
		}
	})
	c.tasks = taskrole.NewTasks(taskrole.NewVerifier(join.Audience(c.cfg.TrustDomain), cfg.Region, t.STSEndpoint), api, roles)
	c.enrolment.ByRole(c.tasks)
	return nil
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

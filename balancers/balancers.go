// Package balancers looks up in Elastic Load Balancing what a definition of a
// service only names: its target groups, who sends to them, and whether their
// targets are healthy.
//
// It owns which calls are made. It must not know what fits a port of the mesh:
// that is [definition.Target.Trouble]. Start reading at [Fill].
package balancers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"patchbay/declare/definition"
	"patchbay/internal/iam"
)

// API is the part of Elastic Load Balancing that is called; none of it changes
// anything.
type API interface {
	elb.DescribeListenersAPIClient
	elb.DescribeRulesAPIClient
	DescribeTargetGroups(context.Context, *elb.DescribeTargetGroupsInput, ...func(*elb.Options)) (*elb.DescribeTargetGroupsOutput, error)
	DescribeTargetHealth(context.Context, *elb.DescribeTargetHealthInput, ...func(*elb.Options)) (*elb.DescribeTargetHealthOutput, error)
}

// Fill looks up every target group that a service of found names by its ARN.
// What is running comes in the place of what a text says. An error is a
// *iam.Denied if the caller may not make a call.
func Fill(ctx context.Context, api API, found []*definition.Definition) error {
	for _, d := range found {
		if d.Service == nil {
			continue
		}
		for i, lb := range d.Service.Objects("loadBalancers") {
			arn := lb.Text("targetGroupArn")
			if !strings.Contains(arn, ":elasticloadbalancing:") {
				continue
			}
			t, err := look(ctx, api, arn)
			if err != nil {
				return fmt.Errorf("look up the target group %s: %w", arn, err)
			}
			if d.Targets == nil {
				d.Targets = map[int]definition.Target{}
			}
			d.Targets[i] = t
		}
	}
	return nil
}

func look(ctx context.Context, api API, arn string) (t definition.Target, err error) {
	groups, err := api.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{TargetGroupArns: []string{arn}})
	if err != nil {
		return t, iam.Explain(err, "elasticloadbalancing:DescribeTargetGroups", "*")
	}
	for _, g := range groups.TargetGroups {
		t.Protocol, t.HealthCheck = string(g.Protocol), string(g.HealthCheckProtocol)
		for _, balancer := range g.LoadBalancerArns {
			switch {
			case strings.Contains(balancer, ":loadbalancer/net/"):
				t.Balancer = "network"
			case strings.Contains(balancer, ":loadbalancer/app/"):
				t.Balancer = "application"
				policies, err := policies(ctx, api, balancer, arn)
				if err != nil {
					return t, err
				}
				t.Policies = append(t.Policies, policies...)
			}
		}
	}
	health, err := api.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &arn})
	if err != nil {
		return t, iam.Explain(err, "elasticloadbalancing:DescribeTargetHealth", "*")
	}
	for _, h := range health.TargetHealthDescriptions {
		if h.TargetHealth != nil && h.TargetHealth.State == types.TargetHealthStateEnumUnhealthy && h.Target != nil {
			t.Unhealthy = append(t.Unhealthy, fmt.Sprintf("%s:%d (%s)", aws.ToString(h.Target.Id), aws.ToInt32(h.Target.Port), aws.ToString(h.TargetHealth.Description)))
		}
	}
	return t, nil
}

// policies are those of the listeners that send to a target group, each once.
func policies(ctx context.Context, api API, balancer, group string) (out []string, err error) {
	for pages := elb.NewDescribeListenersPaginator(api, &elb.DescribeListenersInput{LoadBalancerArn: &balancer}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, iam.Explain(err, "elasticloadbalancing:DescribeListeners", "*")
		}
		for _, l := range page.Listeners {
			policy := aws.ToString(l.SslPolicy)
			if policy == "" || slices.Contains(out, policy) {
				continue
			}
			sends := forwards(l.DefaultActions, group)
			if !sends {
				if sends, err = ruled(ctx, api, aws.ToString(l.ListenerArn), group); err != nil {
					return nil, err
				}
			}
			if sends {
				out = append(out, policy)
			}
		}
	}
	return out, nil
}

// ruled reports whether a rule of a listener sends to a target group.
func ruled(ctx context.Context, api API, listener, group string) (bool, error) {
	for pages := elb.NewDescribeRulesPaginator(api, &elb.DescribeRulesInput{ListenerArn: &listener}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return false, iam.Explain(err, "elasticloadbalancing:DescribeRules", "*")
		}
		if slices.ContainsFunc(page.Rules, func(r types.Rule) bool { return forwards(r.Actions, group) }) {
			return true, nil
		}
	}
	return false, nil
}

func forwards(actions []types.Action, group string) bool {
	return slices.ContainsFunc(actions, func(a types.Action) bool {
		return aws.ToString(a.TargetGroupArn) == group || a.ForwardConfig != nil &&
			slices.ContainsFunc(a.ForwardConfig.TargetGroups, func(t types.TargetGroupTuple) bool { return aws.ToString(t.TargetGroupArn) == group })
	})
}

package rehearse

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/acmpca"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
)

func (c Calls) cloudMap() []call {
	sd := c.CloudMap
	if sd == nil {
		return nil
	}
	service, one := new("srv-"+nothing), new(int32(1))
	out := []call{
		{"servicediscovery:ListNamespaces", "*", func(ctx context.Context) error {
			_, err := sd.ListNamespaces(ctx, &servicediscovery.ListNamespacesInput{MaxResults: one})
			return err
		}},
		{"servicediscovery:ListServices", "*", func(ctx context.Context) error {
			_, err := sd.ListServices(ctx, &servicediscovery.ListServicesInput{MaxResults: one, Filters: []types.ServiceFilter{
				{Name: types.ServiceFilterNameNamespaceId, Values: []string{"ns-" + nothing}, Condition: types.FilterConditionEq},
			}})
			return err
		}},
		{"servicediscovery:GetServiceAttributes", "*", func(ctx context.Context) error {
			_, err := sd.GetServiceAttributes(ctx, &servicediscovery.GetServiceAttributesInput{ServiceId: service})
			return err
		}},
		{"servicediscovery:GetInstance", "*", func(ctx context.Context) error {
			_, err := sd.GetInstance(ctx, &servicediscovery.GetInstanceInput{ServiceId: service, InstanceId: new(nothing)})
			return err
		}},
		{"servicediscovery:GetOperation", "*", func(ctx context.Context) error {
			_, err := sd.GetOperation(ctx, &servicediscovery.GetOperationInput{OperationId: new(nothing)})
			return err
		}},
	}
	for _, n := range c.Namespaces {
		out = append(out,
			call{"servicediscovery:DiscoverInstances", "namespace " + n, func(ctx context.Context) error {
				_, err := sd.DiscoverInstances(ctx, &servicediscovery.DiscoverInstancesInput{NamespaceName: &n, ServiceName: new(nothing), MaxResults: one})
				return err
			}},
			call{"servicediscovery:DiscoverInstancesRevision", "namespace " + n, func(ctx context.Context) error {
				_, err := sd.DiscoverInstancesRevision(ctx, &servicediscovery.DiscoverInstancesRevisionInput{NamespaceName: &n, ServiceName: new(nothing)})
				return err
			}})
	}
	return out
}

func (c Calls) authorities() []call {
	var out []call
	for _, ca := range c.CAs {
		arn := ca.ARN
		out = append(out,
			call{"acm-pca:DescribeCertificateAuthority", arn, func(ctx context.Context) error {
				_, err := ca.Client.DescribeCertificateAuthority(ctx, &acmpca.DescribeCertificateAuthorityInput{CertificateAuthorityArn: &arn})
				return err
			}},
			call{"acm-pca:GetCertificateAuthorityCertificate", arn, func(ctx context.Context) error {
				_, err := ca.Client.GetCertificateAuthorityCertificate(ctx, &acmpca.GetCertificateAuthorityCertificateInput{CertificateAuthorityArn: &arn})
				return err
			}},
			call{"acm-pca:GetCertificate", arn, func(ctx context.Context) error {
				none := arn + "/certificate/00000000000000000000000000000000"
				_, err := ca.Client.GetCertificate(ctx, &acmpca.GetCertificateInput{CertificateAuthorityArn: &arn, CertificateArn: &none})
				return err
			}})
	}
	return out
}

func (c Calls) secrets() []call {
	if c.Secrets == nil {
		return nil
	}
	return []call{{"secretsmanager:GetSecretValue", c.secretARN(), func(ctx context.Context) error {
		_, err := c.Secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: new(c.Prefix + nothing)})
		return err
	}}}
}

func (c Calls) instances() []call {
	if c.Instances == nil {
		return nil
	}
	return []call{{"ec2:DescribeInstances", "*", func(ctx context.Context) error {
		_, err := c.Instances(ctx, &ec2.DescribeInstancesInput{Filters: []ec2types.Filter{{Name: new("instance-id"), Values: []string{"i-00000000000000000"}}}})
		return err
	}}}
}

func (c Calls) tasks() []call {
	if c.Tasks == nil {
		return nil
	}
	out := []call{{"ecs:DescribeTaskDefinition", "*", func(ctx context.Context) error {
		_, err := c.Tasks.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: new(nothing)})
		return err
	}}}
	for _, cluster := range c.Clusters {
		out = append(out, call{"ecs:DescribeTasks", "cluster " + cluster, func(ctx context.Context) error {
			_, err := c.Tasks.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &cluster, Tasks: []string{"00000000000000000000000000000000"}})
			return err
		}})
	}
	return out
}

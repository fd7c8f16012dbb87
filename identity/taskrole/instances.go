package taskrole

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Describe is DescribeInstances of the AWS SDK's client. It is a function, not
// an interface: a client that becomes an interface has all its 700 operations
// linked into the program, 37 MB of them.
type Describe func(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)

// ofEC2 is EC2 as far as instances are known there.
type ofEC2 struct{ ask Describe }

// Instances are instances of EC2. It touches nothing outside.
func Instances(v *Verifier, ask Describe, roles []Role) *Kind {
	return &Kind{InstanceKeyID, v, ofEC2{ask}, roles}
}

// describe asks for instances by a filter, which leaves out those that there
// are not; named as ids they would be an error for all.
func (e ofEC2) describe(ctx context.Context, ids []string) ([]types.Instance, error) {
	out, err := e.ask(ctx, &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: new("instance-id"), Values: ids}}})
	if err != nil {
		return nil, explain("ec2:DescribeInstances", err)
	}
	var all []types.Instance
	for _, r := range out.Reservations {
		all = append(all, r.Instances...)
	}
	return all, nil
}

// ended reports whether an instance can't come back under its id and address
// as it was: one that is stopped gets a new session when it starts.
func ended(i types.Instance) bool {
	s := state(i)
	return s != types.InstanceStateNamePending && s != types.InstanceStateNameRunning
}

func state(i types.Instance) types.InstanceStateName {
	if i.State == nil {
		return ""
	}
	return i.State.Name
}

// running asks EC2 for the instance and holds it against what it should be.
func (e ofEC2) running(ctx context.Context, role Role, id string, from netip.Addr) error {
	all, err := e.describe(ctx, []string{id})
	if err != nil {
		return err
	}
	if len(all) != 1 {
		return refuse("EC2 has no instance %s in the region of identities.instanceRoles", id)
	}
	i := all[0]
	profile := ""
	if i.IamInstanceProfile != nil {
		profile = aws.ToString(i.IamInstanceProfile.Arn)
	}
	switch {
	case aws.ToString(i.InstanceId) != id:
		return refuse("EC2 answers with instance %.40q", aws.ToString(i.InstanceId))
	case ended(i):
		return refuse("instance %s is %q; allowed: one that is pending or running", id, state(i))
	case !role.hasProfile(profile):
		return refuse("instance %s has instance profile %.200q; workload %s is %s", id, profile, role.Workload, role.profile())
	}
	return comesFrom(addresses(i), "instance "+id, from)
}

// hasProfile reports whether an instance profile is the role's.
func (r Role) hasProfile(arn string) bool {
	if r.InstanceProfile != "" {
		return arn == r.InstanceProfile
	}
	account, name := names(arn)
	mine, my := r.names()
	return strings.Contains(arn, ":instance-profile/") && account == mine && name == my
}

// profile says in words what hasProfile asks for.
func (r Role) profile() string {
	if r.InstanceProfile != "" {
		return r.InstanceProfile
	}
	account, name := r.names()
	return "one that is named like its role, " + name + " of account " + account + " (instanceProfile names another)"
}

// addresses are the private ones of all interfaces.
func addresses(i types.Instance) (all []string) {
	for _, n := range i.NetworkInterfaces {
		for _, a := range n.PrivateIpAddresses {
			all = append(all, aws.ToString(a.PrivateIpAddress))
		}
		for _, a := range n.Ipv6Addresses {
			all = append(all, aws.ToString(a.Ipv6Address))
		}
	}
	return all
}

// gone asks for those alone whose names are instances'.
func (e ofEC2) gone(ctx context.Context, _ Role, ids []string) (map[string]bool, error) {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !instanceID.MatchString(id) })
	gone := map[string]bool{}
	for some := range slices.Chunk(ids, describeMost) {
		all, err := e.describe(ctx, some)
		if err != nil {
			return nil, err
		}
		for _, id := range some {
			gone[id] = true
		}
		for _, i := range all {
			gone[aws.ToString(i.InstanceId)] = ended(i)
		}
	}
	return gone, nil
}

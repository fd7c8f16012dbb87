package ec2

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"patchbay/internal/awsfake/wire"
)

const one, two = "i-0123456789abcdef0", "i-0123456789abcdef1"

// stand is EC2 and the SDK's client of it.
func stand(t *testing.T) (*EC2, *wire.Server, *ec2.Client) {
	t.Helper()
	e := New()
	s := wire.New(wire.Options{Principals: map[string]wire.Principal{"id": {Secret: "s", ARN: "arn:aws:iam::111122223333:user/u"}}}, e.API())
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return e, s, ec2.New(ec2.Options{Region: "us-east-1", BaseEndpoint: &h.URL, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("id", "s", "")})
}

// TestInstances: the unmodified SDK reads what an instance is.
func TestInstances(t *testing.T) {
	e, _, client := stand(t)
	e.Put(Instance{ID: one, Profile: "arn:aws:iam::111122223333:instance-profile/backend", Addresses: []string{"10.0.1.17", "10.0.1.18", "2001:db8::1"}})
	e.Put(Instance{ID: two, State: "terminated", Addresses: []string{"10.0.1.19"}})
	out, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{})
	if err != nil || len(out.Reservations) != 2 || aws.ToString(out.Reservations[0].OwnerId) != "111122223333" {
		t.Fatalf("%+v, %v", out, err)
	}
	i := out.Reservations[0].Instances[0]
	if aws.ToString(i.InstanceId) != one || i.State.Name != types.InstanceStateNameRunning || *i.State.Code != 16 ||
		aws.ToString(i.IamInstanceProfile.Arn) != "arn:aws:iam::111122223333:instance-profile/backend" || aws.ToString(i.PrivateIpAddress) != "10.0.1.17" {
		t.Errorf("%+v", i)
	}
	n := i.NetworkInterfaces[0]
	if len(n.PrivateIpAddresses) != 2 || aws.ToString(n.PrivateIpAddresses[1].PrivateIpAddress) != "10.0.1.18" || aws.ToString(n.Ipv6Addresses[0].Ipv6Address) != "2001:db8::1" {
		t.Errorf("%+v", n)
	}
	if i := out.Reservations[1].Instances[0]; i.State.Name != types.InstanceStateNameTerminated || len(i.NetworkInterfaces) != 0 || i.IamInstanceProfile != nil {
		t.Errorf("%+v", i)
	}
}

// TestWhich: ids must exist, filters need not fit.
func TestWhich(t *testing.T) {
	e, _, client := stand(t)
	e.Put(Instance{ID: one})
	filter := func(name string, values ...string) *ec2.DescribeInstancesInput {
		return &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: &name, Values: values}}}
	}
	for _, x := range []struct {
		in   *ec2.DescribeInstancesInput
		n    int
		code string
	}{
		{&ec2.DescribeInstancesInput{InstanceIds: []string{one}}, 1, ""},
		{&ec2.DescribeInstancesInput{InstanceIds: []string{one, two}}, 0, "InvalidInstanceID.NotFound"},
		{&ec2.DescribeInstancesInput{InstanceIds: []string{"i-1"}}, 0, "InvalidInstanceID.Malformed"},
		{filter("instance-id", one, two), 1, ""},
		{filter("instance-id", two), 0, ""},
		{filter("colour", "red"), 0, "InvalidParameterValue"},
		{filter("instance-id", make([]string, 201)...), 0, "FilterLimitExceeded"},
	} {
		out, err := client.DescribeInstances(t.Context(), x.in)
		got := ""
		if e, ok := errors.AsType[smithy.APIError](err); ok {
			got = e.ErrorCode()
		}
		if got != x.code || err == nil && len(out.Reservations) != x.n {
			t.Errorf("%+v: %v, %v", x.in, out, err)
		}
	}
}

// TestRefusals are what the SDK makes of them.
func TestRefusals(t *testing.T) {
	_, s, client := stand(t)
	ask := func(c *ec2.Client) string {
		_, err := c.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{})
		e, ok := errors.AsType[smithy.APIError](err)
		if !ok {
			t.Fatalf("%v", err)
		}
		return e.ErrorCode()
	}
	for injected, want := range map[string]string{"ThrottlingException": "RequestLimitExceeded", "InternalError": "InternalError"} {
		clear := s.Inject(wire.Fault{Error: injected})
		if got := ask(client); got != want {
			t.Errorf("%s: %s", injected, got)
		}
		clear()
	}
	s.Grant("id", wire.Principal{Secret: "s", ARN: "arn:aws:iam::111122223333:user/u", Statements: []wire.Statement{{Effect: "Allow", Action: wire.List{"ec2:Run*"}, Resource: wire.List{"*"}}}})
	if got := ask(client); got != "UnauthorizedOperation" {
		t.Error(got)
	}
	s.Grant("id", wire.Principal{Secret: "other"})
	if got := ask(client); got != "SignatureDoesNotMatch" {
		t.Error(got)
	}
}

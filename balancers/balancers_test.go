package balancers

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"patchbay/declare/definition"
	"patchbay/declare/source"
	"patchbay/internal/awsfake/elb"
	"patchbay/internal/awsfake/wire"
	"patchbay/internal/iam"
)

const prefix = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:"

func group(name string) string { return prefix + "targetgroup/" + name + "/0123456789abcdef" }

// stand is Elastic Load Balancing with a few of everything, and the SDK's
// client of it.
func stand(t *testing.T, policy ...wire.Statement) *sdk.Client {
	t.Helper()
	e := &elb.ELB{}
	app, net, listener := prefix+"loadbalancer/app/a/1", prefix+"loadbalancer/net/n/2", prefix+"listener/app/a/1/"
	e.Put(elb.Group{ARN: group("good"), Protocol: "HTTPS", HealthCheck: "HTTPS", Balancers: []string{app}})
	e.Put(elb.Group{ARN: group("old"), Protocol: "HTTPS", HealthCheck: "HTTPS", Balancers: []string{app}})
	e.Put(elb.Group{ARN: group("plain"), Protocol: "HTTP", HealthCheck: "HTTP", Balancers: []string{app}, Targets: []elb.Target{
		{ID: "10.0.1.17", Port: 15000, State: "unhealthy", Reason: "Target.ResponseCodeMismatch", Text: "Health checks failed with these codes: [400]"}, {ID: "10.0.1.18", Port: 15000, State: "initial"},
	}})
	e.Put(elb.Group{ARN: group("net"), Protocol: "TCP", HealthCheck: "HTTPS", Balancers: []string{net}})
	e.Put(elb.Group{ARN: group("alone"), Protocol: "HTTPS", HealthCheck: "HTTPS"})
	forward := func(name string) []elb.Action { return []elb.Action{{Type: "forward", Group: group(name)}} }
	for i := range 45 { // more than a page
		e.Listen(elb.Listener{ARN: fmt.Sprint(listener, "other", i), Balancer: app, Protocol: "HTTP", Default: forward("alone")})
	}
	e.Listen(elb.Listener{ARN: listener + "1", Balancer: app, Protocol: "HTTPS", Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06", Default: forward("good")})
	e.Listen(elb.Listener{ARN: listener + "2", Balancer: app, Protocol: "HTTPS", Policy: "ELBSecurityPolicy-2016-08", Default: []elb.Action{{Type: "fixed-response"}},
		Rules: []elb.Rule{{ARN: "a"}, {ARN: "b", Actions: []elb.Action{{Type: "forward", Shares: []string{group("alone"), group("old")}}}}}})
	s := wire.New(wire.Options{Principals: map[string]wire.Principal{"id": {Secret: "s", ARN: "arn:aws:iam::111122223333:user/u", Statements: policy}}}, e.API())
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return sdk.New(sdk.Options{Region: "eu-west-1", BaseEndpoint: &h.URL, Credentials: credentials.NewStaticCredentialsProvider("id", "s", "")})
}

// serving is the definition of a service with TLS behind a target group, as AWS
// answers about it.
func serving(t *testing.T, arn string) []*definition.Definition {
	t.Helper()
	var files []source.File
	for _, name := range []string{"task.json", "services.answer.json"} {
		text, err := os.ReadFile("../declare/source/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.NewReplacer(`"loadBalancers": []`, `"loadBalancers": [{"targetGroupArn": "`+arn+`", "containerName": "app", "containerPort": 8080}]`,
			`"portName": "web", "discoveryName"`, `"portName": "web", "tls": {"issuerCertificateAuthority": {"awsPcaAuthorityArn": "arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/0f0f0f0f-1111-2222-3333-444444444444"}}, "discoveryName"`).Replace(string(text)))
		files = append(files, source.File{Name: name, Text: text})
	}
	found, err := source.Read(source.Options{}, files...)
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return found
}

// TestFill: what AWS has of a target group says what does not fit.
func TestFill(t *testing.T) {
	client := stand(t)
	for name, want := range map[string][]string{
		"good": nil, "alone": nil,
		"old":   {"the listener's policy ELBSecurityPolicy-2016-08 has no TLS 1.3"},
		"plain": {"speaks HTTP,", "checks by HTTP,", "1 target unhealthy: 10.0.1.17:15000 (Health checks failed with these codes: [400])"},
		"net":   {"checks by HTTPS: a Network Load Balancer verifies"},
	} {
		found := serving(t, group(name))
		if err := Fill(t.Context(), client, found); err != nil {
			t.Fatal(err)
		}
		task, problems := found[0].Declare()
		trouble := found[0].BalancerTrouble(task)
		if len(trouble) != len(want) {
			t.Errorf("%s: %v (%v, %+v)", name, trouble, problems, found[0].Targets)
			continue
		}
		for i, p := range trouble {
			if !strings.Contains(p.Text, want[i]) || p.File != "services.answer.json" {
				t.Errorf("%s: %v, want %s", name, p, want[i])
			}
		}
	}
}

// TestErrors: a target group that is gone is named, and a call that is refused
// comes with the statement that allows it.
func TestErrors(t *testing.T) {
	if err := Fill(t.Context(), stand(t), serving(t, group("gone"))); err == nil || !strings.Contains(err.Error(), group("gone")) || !strings.Contains(err.Error(), "TargetGroupNotFound") {
		t.Error(err)
	}
	for _, denied := range []string{"DescribeTargetGroups", "DescribeListeners", "DescribeRules", "DescribeTargetHealth"} {
		action := "elasticloadbalancing:" + denied
		client := stand(t, wire.Statement{Effect: "Allow", Action: wire.List{"elasticloadbalancing:*"}, Resource: wire.List{"*"}}, wire.Statement{Effect: "Deny", Action: wire.List{action}, Resource: wire.List{"*"}})
		err := Fill(t.Context(), client, serving(t, group("old")))
		if d, is := errors.AsType[*iam.Denied](err); !is || d.Action != action {
			t.Errorf("%s: %v", denied, err)
		}
	}
}

package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patchbay/internal/awsfake/elb"
	"patchbay/internal/awsfake/wire"
)

// TestDoctorOfLoadBalancers: doctor looks up the target group that a service
// only names, with the operator's own credentials.
func TestDoctorOfLoadBalancers(t *testing.T) {
	const group = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/web/0123456789abcdef"
	e := &elb.ELB{}
	e.Put(elb.Group{ARN: group, Protocol: "TCP", HealthCheck: "HTTPS", Balancers: []string{"arn:aws:elasticloadbalancing:eu-west-1:111122223333:loadbalancer/net/n/1"}, Targets: []elb.Target{
		{ID: "10.0.1.17", Port: 15000, State: "unhealthy", Text: "Health checks failed"},
	}})
	cloud := httptest.NewServer(wire.New(wire.Options{Principals: map[string]wire.Principal{"me": {Secret: "s", ARN: "arn:aws:iam::111122223333:user/me"}}}, e.API()))
	t.Cleanup(cloud.Close)
	for name, v := range map[string]string{"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2": cloud.URL, "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, v)
	}
	dir := t.TempDir()
	args := []string{"doctor", "--aws"}
	for _, name := range []string{"task.json", "services.answer.json"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "declare", "source", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		behind := strings.ReplaceAll(string(text), `"loadBalancers": []`, `"loadBalancers": [{"targetGroupArn": "`+group+`", "containerName": "app", "containerPort": 8080}]`)
		if err := os.WriteFile(file, []byte(behind), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--definition", file)
	}
	out, exit := startPlane(t).command(args...)
	for _, want := range []string{"PB1112", "a Network Load Balancer verifies the certificate", "1 target unhealthy: 10.0.1.17:15000 (Health checks failed)"} {
		if exit != exitProblems || !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("exit code %d, want %d and %q:\n%s", exit, exitProblems, want, out)
		}
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/aws/smithy-go"

	"patchbay/discovery/cloud"
	"patchbay/registry/watch"
)

// process is `patchbay registry` as a process of its own.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	says string // its one line
	url  string
	log  *bytes.Buffer
	done bool
}

func startRegistry(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command("patchbay", append([]string{"registry"}, args...)...), log: &bytes.Buffer{}}
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !p.done {
			p.stop(syscall.SIGKILL)
		}
		if t.Failed() {
			t.Logf("patchbay registry: %s", p.log)
		}
	})
	p.says, _ = bufio.NewReader(out).ReadString('\n')
	if p.url = regexp.MustCompile(`http://\S+:\d+`).FindString(p.says); p.url == "" {
		p.stop(syscall.SIGKILL)
		t.Fatalf("the registry said %q, and %s", p.says, p.log)
	}
	return p
}

// stop ends the process and returns its exit code, -1 for a signal.
func (p *process) stop(sig syscall.Signal) int {
	p.t.Helper()
	p.done = true
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait() // the exit code says it
	return p.cmd.ProcessState.ExitCode()
}

// sdk is the AWS SDK with these credentials. The endpoint is an address, so
// that it needs our switch for the host prefix.
func (p *process) sdk(id, secret string) *sd.Client {
	cfg := aws.Config{Region: "eu-central-1", Credentials: awscredentials.NewStaticCredentialsProvider(id, secret, "")}
	return cloud.NewClient(cfg, cloud.ClientOptions{Endpoint: p.url})
}

// settle waits for an operation and returns its targets.
func settle(t *testing.T, c *sd.Client, id *string) map[string]string {
	t.Helper()
	for {
		out, err := c.GetOperation(t.Context(), &sd.GetOperationInput{OperationId: id})
		if err != nil {
			t.Fatal(err)
		}
		switch out.Operation.Status {
		case types.OperationStatusSuccess:
			return out.Operation.Targets
		case types.OperationStatusFail:
			t.Fatalf("operation failed: %s", aws.ToString(out.Operation.ErrorMessage))
		}
	}
}

// anInstance makes namespace demo, service backend and instance one.
func anInstance(t *testing.T, c *sd.Client) {
	t.Helper()
	ns, err := c.CreateHttpNamespace(t.Context(), &sd.CreateHttpNamespaceInput{Name: aws.String("demo")})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := c.CreateService(t.Context(), &sd.CreateServiceInput{Name: aws.String("backend"), NamespaceId: aws.String(settle(t, c, ns.OperationId)["NAMESPACE"])})
	if err != nil {
		t.Fatal(err)
	}
	op, err := c.RegisterInstance(t.Context(), &sd.RegisterInstanceInput{ServiceId: svc.Service.Id, InstanceId: aws.String("one"), Attributes: map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	settle(t, c, op.OperationId)
}

func instances(ctx context.Context, c *sd.Client) (int, error) {
	out, err := c.DiscoverInstances(ctx, &sd.DiscoverInstancesInput{NamespaceName: aws.String("demo"), ServiceName: aws.String("backend")})
	if err != nil {
		return 0, err
	}
	return len(out.Instances), nil
}

func TestRegistryStopsCleanlyAndKeepsItsData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "data")
	p := startRegistry(t, "--listen", "127.0.0.1:0", "--data", dir)
	if !strings.Contains(p.says, "kept in "+dir) || !strings.Contains(p.says, "aws servicediscovery list-namespaces --region us-east-1 --endpoint-url "+p.url) {
		t.Errorf("it says %q", p.says)
	}
	anInstance(t, p.sdk("any", "any"))
	follow := &watch.Client{URL: p.url}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	standing := make(chan struct{}, 1)
	go func() {
		_ = follow.Run(ctx, func(watch.Event) {
			select {
			case standing <- struct{}{}:
			default:
			}
		})
	}()
	<-standing
	if code := p.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d after SIGTERM, with an open watch", code)
	}
	p = startRegistry(t, "--listen", "127.0.0.1:0", "--data", dir, "--metrics", "127.0.0.1:0")
	if n, err := instances(t.Context(), p.sdk("any", "any")); n != 1 {
		t.Errorf("after a restart: %d instances, %v", n, err)
	}
	if out, err := exec.Command("patchbay", "registry", "--listen", "127.0.0.1:0", "--data", dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "another process holds it") {
		t.Errorf("a second one on the same data: %v %s", err, out)
	}
	if code := p.stop(syscall.SIGINT); code != 0 {
		t.Errorf("exit code %d after SIGINT", code)
	}
}

const keysFile = `keys:
  control: {secret: a-secret-of-the-control-plane}
  dashboard: {secret: a-secret-of-the-dashboard, readOnly: true}
`

func TestRegistryWithKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.yaml")
	if err := os.WriteFile(file, []byte(keysFile), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startRegistry(t, "--listen", "0.0.0.0:0", "--keys", file)
	writer, reader := p.sdk("control", "a-secret-of-the-control-plane"), p.sdk("dashboard", "a-secret-of-the-dashboard")
	anInstance(t, writer)
	if n, err := instances(t.Context(), reader); n != 1 {
		t.Errorf("the read-only key sees %d, %v", n, err)
	}
	write := func(c *sd.Client) error {
		_, err := c.CreateHttpNamespace(t.Context(), &sd.CreateHttpNamespaceInput{Name: aws.String("other")})
		return err
	}
	for name, c := range map[string]struct {
		err  error
		code string
	}{
		"a read-only key that writes": {write(reader), "AccessDeniedException"},
		"a wrong secret":              {write(p.sdk("control", "another-secret-of-that-length")), "InvalidSignatureException"},
		"an unknown key":              {write(p.sdk("stranger", "a-secret-of-the-control-plane")), "UnrecognizedClientException"},
	} {
		var api smithy.APIError
		if !errors.As(c.err, &api) || api.ErrorCode() != c.code {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	for _, path := range []string{"/", watch.Path} {
		resp, err := http.Get(p.url + path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden || !strings.Contains(string(text), "MissingAuthenticationTokenException") {
			t.Errorf("unsigned GET %s: %d %s", path, resp.StatusCode, text)
		}
	}
	credentials := awscredentials.NewStaticCredentialsProvider("dashboard", "a-secret-of-the-dashboard", "")
	ctx, leave := context.WithTimeout(t.Context(), 10*time.Second)
	defer leave()
	err := (&watch.Client{URL: p.url, Sign: watch.SignV4(credentials, "eu-central-1")}).Run(ctx, func(watch.Event) { leave() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a signed watch: %v", err)
	}
	if code := p.stop(syscall.SIGTERM); code != 0 || strings.Contains(p.log.String(), "a-secret") {
		t.Errorf("exit code %d, or a secret stands in the log", code)
	}
}

func TestRegistryRefusesToStart(t *testing.T) {
	loose := filepath.Join(t.TempDir(), "loose.yaml")
	if err := os.WriteFile(loose, []byte("keys: {a: {secret: short, color: red}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"off loopback":       {[]string{"--listen", "0.0.0.0:0"}, []string{"--listen 0.0.0.0:0", "--keys"}},
		"everywhere":         {[]string{"--listen", ":0"}, []string{"--listen :0", "--keys"}},
		"all that is wrong":  {[]string{"--listen", "here", "--account", "x", "--region", "Ex", "--operation-delay", "-1s", "--health-delay", "2h", "--log-level", "loud", "--metrics", "x"}, []string{"--listen", "--account", "--region", "--operation-delay", "--health-delay", "--log-level", "--metrics"}},
		"keys for everybody": {[]string{"--keys", loose}, []string{"mode 0644", "chmod 600", "color", "5 characters"}},
		"no such keys":       {[]string{"--keys", loose + ".not"}, []string{"no such file"}},
		"an argument":        {[]string{"here"}, []string{"here"}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("patchbay", append([]string{"registry"}, c.args...)...)
			out, err := cmd.CombinedOutput()
			if err == nil || cmd.ProcessState.ExitCode() != exitUsage {
				t.Fatalf("exit code %d: %s", cmd.ProcessState.ExitCode(), out)
			}
			for _, want := range c.says {
				if !strings.Contains(string(out), want) {
					t.Errorf("nothing says %q: %s", want, out)
				}
			}
		})
	}
}

// installed are the programs of that name: Debian's and, if it is another, the
// one on the path.
func installed(t *testing.T, name string, works func(program string) bool) []string {
	t.Helper()
	found := []string{"/usr/bin/" + name}
	if other, err := exec.LookPath(name); err == nil && other != found[0] {
		found = append(found, other)
	}
	found = slices.DeleteFunc(found, func(p string) bool { return !works(p) })
	if len(found) == 0 {
		t.Fatalf("there is no %s that works; `make test-needs` installs it", name)
	}
	return found
}

// The names cloudmap and data-cloudmap exist by a proxy here, which any client
// of AWS can use: what it dials is the registry itself.
func clientEnv(p *process) []string {
	return append(os.Environ(), "http_proxy="+p.url, "AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=any", "AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "NO_PROXY=", "no_proxy=")
}

func TestRegistryWithTheAWSCLI(t *testing.T) {
	clis := installed(t, "aws", func(p string) bool { return exec.Command(p, "--version").Run() == nil })
	for _, cli := range clis[:1] { // one: each call takes most of a second
		t.Run(filepath.Dir(cli), func(t *testing.T) {
			p := startRegistry(t, "--listen", "127.0.0.1:0")
			aws := func(args ...string) map[string]any {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), cli, append([]string{"--endpoint-url", "http://cloudmap", "--output", "json", "servicediscovery"}, args...)...)
				cmd.Env = clientEnv(p)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("aws %v: %v: %s", args, err, out)
				}
				m := map[string]any{}
				if len(out) > 0 {
					if err := json.Unmarshal(out, &m); err != nil {
						t.Fatalf("aws %v: %s", args, out)
					}
				}
				return m
			}
			aws("create-http-namespace", "--name", "demo")
			ns := aws("list-namespaces")["Namespaces"].([]any)[0].(map[string]any)["Id"].(string)
			srv := aws("create-service", "--name", "backend", "--namespace-id", ns)["Service"].(map[string]any)["Id"].(string)
			op := aws("register-instance", "--service-id", srv, "--instance-id", "one", "--attributes", "AWS_INSTANCE_IPV4=10.0.0.1,AWS_INSTANCE_PORT=8080")["OperationId"].(string)
			if got := aws("get-operation", "--operation-id", op)["Operation"].(map[string]any); got["Status"] != "SUCCESS" || got["Type"] != "REGISTER_INSTANCE" {
				t.Errorf("operation: %v", got)
			}
			found := aws("discover-instances", "--namespace-name", "demo", "--service-name", "backend")["Instances"].([]any)
			if len(found) != 1 || found[0].(map[string]any)["Attributes"].(map[string]any)["AWS_INSTANCE_PORT"] != "8080" {
				t.Errorf("discovered: %v", found)
			}
			aws("deregister-instance", "--service-id", srv, "--instance-id", "one")
			aws("delete-service", "--id", srv)
			aws("delete-namespace", "--id", ns)
			cmd := exec.CommandContext(t.Context(), cli, "--endpoint-url", "http://cloudmap", "servicediscovery", "get-service", "--id", srv)
			cmd.Env = clientEnv(p)
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "(ServiceNotFound)") {
				t.Errorf("a deleted service: %v %s", err, out)
			}
		})
	}
}

const botoScript = `
import boto3, time
c = boto3.client("servicediscovery", endpoint_url="http://cloudmap")
def settle(r):
    while True:
        o = c.get_operation(OperationId=r["OperationId"])["Operation"]
        if o["Status"] == "SUCCESS": return o["Targets"]
        assert o["Status"] in ("SUBMITTED", "PENDING"), o
ns = settle(c.create_private_dns_namespace(Name="demo.local", Vpc="vpc-1", Tags=[{"Key": "k", "Value": "v"}]))["NAMESPACE"]
got = c.get_namespace(Id=ns)["Namespace"]
assert got["Type"] == "DNS_PRIVATE" and got["Properties"]["HttpProperties"]["HttpName"] == "demo.local", got
assert abs(got["CreateDate"].timestamp() - time.time()) < 60, got
ids = []
for i in range(25):
    s = c.create_service(Name="s%d" % i, NamespaceId=ns, HealthCheckCustomConfig={"FailureThreshold": 1},
        DnsConfig={"DnsRecords": [{"Type": "A", "TTL": 10}]})["Service"]
    assert s["Type"] == "DNS_HTTP", s
    ids.append(s["Id"])
pages = list(c.get_paginator("list_services").paginate(PaginationConfig={"PageSize": 10}))
assert len(pages) == 3 and sorted(s["Id"] for p in pages for s in p["Services"]) == sorted(ids), pages
settle(c.register_instance(ServiceId=ids[0], InstanceId="one", Attributes={"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INIT_HEALTH_STATUS": "UNHEALTHY"}))
def discover(**kw): return c.discover_instances(NamespaceName="demo.local", ServiceName="s0", **kw)["Instances"]
assert discover()[0]["HealthStatus"] == "UNHEALTHY"
assert discover(HealthStatus="HEALTHY") == []
c.update_instance_custom_health_status(ServiceId=ids[0], InstanceId="one", Status="HEALTHY")
assert discover(HealthStatus="HEALTHY")[0]["InstanceId"] == "one"
assert c.get_instances_health_status(ServiceId=ids[0])["Status"] == {"one": "HEALTHY"}
try:
    c.delete_service(Id=ids[0]); assert False
except c.exceptions.ResourceInUse: pass
try:
    c.register_instance(ServiceId=ids[0], InstanceId="two", Attributes={"AWS_INSTANCE_PORT": "80"}); assert False
except c.exceptions.InvalidInput as e: assert "AWS_INSTANCE_IPV4" in str(e), e
settle(c.deregister_instance(ServiceId=ids[0], InstanceId="one"))
ops = c.list_operations(Filters=[{"Name": "SERVICE_ID", "Values": [ids[0]], "Condition": "EQ"}, {"Name": "STATUS", "Values": ["SUCCESS"], "Condition": "IN"}])["Operations"]
assert len(ops) == 2, ops
for i in ids: c.delete_service(Id=i)
settle(c.delete_namespace(Id=ns))
assert c.list_namespaces()["Namespaces"] == []
print("held")
`

func TestRegistryWithBoto3(t *testing.T) {
	pythons := installed(t, "python3", func(p string) bool { return exec.Command(p, "-c", "import boto3").Run() == nil })
	for _, python := range pythons {
		t.Run(filepath.Dir(python), func(t *testing.T) {
			p := startRegistry(t, "--listen", "127.0.0.1:0")
			cmd := exec.CommandContext(t.Context(), python, "-c", botoScript)
			cmd.Env = clientEnv(p)
			if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "held" {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// What a newcomer trips over stands in the help.
func TestRegistryHelpTeaches(t *testing.T) {
	c := newRegistryCmd()
	for _, word := range []string{"data-cloudmap", "AWS_DISABLE_HOST_PREFIX_INJECTION", "0600"} {
		if !strings.Contains(c.Long, word) {
			t.Errorf("the help does not speak of %s", word)
		}
	}
}

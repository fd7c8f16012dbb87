// Package policies has tests alone: of the IAM policies in this directory.
package policies

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/go-cmp/cmp"

	"patchbay/discovery"
	"patchbay/discovery/cloud"
	"patchbay/discovery/events"
	"patchbay/discovery/pace"
	"patchbay/identity/taskrole"
	"patchbay/internal/awsfake/wire"
	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/privateca"
	"patchbay/pki/secret"
	"patchbay/pki/secret/secretsmanager"
	"patchbay/registrar"
	"patchbay/replicas/directory"
)

var (
	workload = mesh.Workload{Namespace: "prod", Name: "backend", DiscoveryNames: []string{"backend"}}
	backend  = mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}
	address  = netip.MustParseAddr("10.0.1.17")
)

// steps are what the control plane does with AWS, by the prefix of the actions
// that it needs for it. Each does all that it can, whatever is refused on the
// way, and returns what was said about that.
var steps = []struct {
	prefixes []string
	do       func(*world, context.Context) error
}{
	{[]string{"servicediscovery"}, (*world).register},
	{[]string{"servicediscovery"}, (*world).discover},
	{[]string{"servicediscovery"}, (*world).meet},
	{[]string{"ecs", "sts"}, (*world).admit},
	{[]string{"ec2"}, (*world).admitInstance},
	{[]string{"sqs"}, (*world).listen},
	{[]string{"acm-pca"}, (*world).issue},
	{[]string{"secretsmanager", "kms"}, (*world).keep},
}

type nobody struct{}

func (nobody) Hint(mesh.ServiceName)            {}
func (nobody) HintSettings(mesh.ServiceName)    {}
func (nobody) Leaving(mesh.ServiceName, string) {}

func (w *world) registrar() *registrar.Registrar {
	client := cloud.NewClient(w.config(), cloud.ClientOptions{Endpoint: w.maps, Attempts: 1})
	return registrar.New(registrar.Config{CreateNamespace: true, Operation: 5 * time.Second}, client, nobody{}, w.log())
}

// register is the registrar with its reaper: settings change until the oldest
// are taken out, and instances come and go.
func (w *world) register(ctx context.Context) error {
	var errs []error
	r := w.registrar()
	request := func(task string, port uint16) registrar.Request {
		return registrar.Request{
			Instance: registrar.Instance{Node: mesh.Node{Workload: workload, Task: task}, DiscoveryName: "backend", PortName: "web"},
			Peer:     address, ListenerPort: 15010, Health: mesh.Healthy, Protocol: mesh.HTTP, Aliases: []mesh.Alias{{DNSName: "backend.prod", Port: port}},
		}
	}
	for i := range uint16(4) {
		_, err := r.Register(ctx, request(fmt.Sprintf("t%d", i), 8080+i))
		errs = append(errs, err)
	}
	again := w.registrar() // another replica, which knows nothing yet
	_, err := again.Register(ctx, request("t3", 8083))
	errs = append(errs, err, again.SetHealth(ctx, request("t3", 8083).Instance, mesh.Unhealthy))
	_, err = again.Reap(ctx, backend, "t1.web", "t1")
	return errors.Join(append(errs, err, again.Deregister(ctx, request("t2", 8082).Instance))...)
}

// discover follows the namespace until a service was asked for its revision, or
// something is refused.
func (w *world) discover(ctx context.Context) error {
	log := w.log()
	cm, err := discovery.New(discovery.Config{
		Namespaces: []discovery.Namespace{{Name: "prod"}}, CreateNamespace: true, Budget: cloud.Unlimited,
		Pace: pace.Rules{Hinted: 20 * time.Millisecond, Unhinted: 20 * time.Millisecond},
	}, cloud.NewClient(w.config(), cloud.ClientOptions{Endpoint: w.maps}), mesh.NewStore(), log)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = cm.Run(ctx) }()
	defer func() { stop(); <-done }()
	said := func() (text string) {
		for _, n := range cm.Status() {
			text += n.Error
			for _, s := range n.Services {
				text += s.Error + s.Settings
			}
		}
		return text
	}
	w.until("discovery", func() bool {
		return w.cloud.has("servicediscovery:DiscoverInstancesRevision") && w.cloud.has("servicediscovery:DiscoverInstances") || strings.Contains(said()+w.logs.String(), " may not ")
	})
	if text := said(); text != "" {
		return errors.New(text)
	}
	return nil
}

// meet is the directory of replicas.
func (w *world) meet(ctx context.Context) error {
	d := directory.New(directory.Options{Namespace: "prod", Create: true}, cloud.NewClient(w.config(), cloud.ClientOptions{Endpoint: w.maps, Attempts: 1}))
	const self = "10.0.1.1:18005"
	joined, stop := context.WithCancel(ctx)
	defer stop()
	left := make(chan error, 1)
	go func() { left <- d.Join(joined, self) }()
	var listed error
	w.until("the directory", func() bool {
		if len(left) > 0 {
			return true
		}
		list, err := directory.New(directory.Options{Namespace: "prod"}, cloud.NewClient(w.config(), cloud.ClientOptions{Endpoint: w.maps, Attempts: 1})).List(ctx)
		listed = err
		return slices.Contains(list, self) || err != nil && strings.Contains(err.Error(), " may not ")
	})
	forgot := d.Forget(ctx, self)
	stop()
	err := <-left
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(listed, forgot, err)
}

// admit takes in a task by its role, and finds out what has ended.
func (w *world) admit(ctx context.Context) error {
	api := ecs.NewFromConfig(w.config(), func(o *ecs.Options) { o.BaseEndpoint = &w.url })
	tasks := taskrole.Roles{taskrole.Tasks(taskrole.NewVerifier("patchbay:"+trustDomain, region, w.url), api, []taskrole.Role{{Workload: workload, ARN: "arn:aws:iam::111122223333:role/backend", Cluster: "prod", Service: "backend"}})}
	csr := []byte("a certificate request")
	proof, err := taskrole.Sign(ctx, credentials.NewStaticCredentialsProvider("ASIATASK", "task", "session"), region, w.url, "patchbay:"+trustDomain, csr)
	if err != nil {
		return err
	}
	_, _, _, err = tasks.Admit(ctx, proof, csr, mesh.Node{Workload: workload, Task: taskID}, address, time.Now())
	_, gone := tasks.Gone(ctx, workload, []string{taskID})
	return errors.Join(err, gone)
}

// admitInstance takes in an instance by its role, and finds out what has ended.
func (w *world) admitInstance(ctx context.Context) error {
	api := ec2.NewFromConfig(w.config(), func(o *ec2.Options) { o.BaseEndpoint = &w.url })
	instances := taskrole.Roles{taskrole.Instances(taskrole.NewVerifier("patchbay:"+trustDomain, region, w.url), api.DescribeInstances, []taskrole.Role{{Workload: workload, ARN: "arn:aws:iam::111122223333:role/backend"}})}
	csr := []byte("a certificate request")
	proof, err := taskrole.Sign(ctx, credentials.NewStaticCredentialsProvider("ASIAMACHINE", "machine", "session"), region, w.url, "patchbay:"+trustDomain, csr)
	if err != nil {
		return err
	}
	_, _, _, err = instances.Admit(ctx, proof, csr, mesh.Node{Workload: workload, Task: machineID}, address, time.Now())
	_, gone := instances.Gone(ctx, workload, []string{machineID})
	return errors.Join(err, gone)
}

// listen reads one event and takes it off the queue.
func (w *world) listen(ctx context.Context) error {
	client := sqs.NewFromConfig(w.config(), func(o *sqs.Options) { o.BaseEndpoint, o.RetryMaxAttempts = &w.url, 1 })
	q := events.New(events.Options{QueueURL: w.queue, Changed: func(events.Task) {}, Log: w.log()}, client)
	w.sqs.Send(w.queue, `{"source":"aws.ec2"}`)
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = q.Run(ctx) }()
	defer func() { stop(); <-done }()
	w.until("the queue", func() bool { return w.sqs.Left(w.queue) == 0 || strings.Contains(w.logs.String(), " may not ") })
	return nil
}

// issue gets a certificate and the roots.
func (w *world) issue(ctx context.Context) error {
	ca, err := privateca.New(w.config(), privateca.Options{ARN: w.ca, Region: region, Endpoint: w.url, Log: w.log()})
	if err != nil {
		return err
	}
	_, err = ca.Issue(ctx, issue.NewRequest(trustDomain, &mesh.Service{Name: backend, Aliases: []mesh.Alias{{DNSName: "backend.prod", Port: 80}}}))
	_, roots := ca.Roots(ctx)
	return errors.Join(err, roots)
}

// keep stores two generations of a secret, the second for a service that asks
// for a KMS key of its own, and reads the newer.
func (w *world) keep(ctx context.Context) error {
	s, err := secretsmanager.New(w.config(), secretsmanager.Options{Region: region, Endpoint: w.url, Prefix: "ecs-sc/" + trustDomain + "/", KMSKey: kmsKey, Interval: -1})
	if err != nil {
		return err
	}
	var errs []error
	for i := range uint64(2) {
		e := secret.Entry{Name: "leaf/prod/backend", Generation: i + 1, Value: []byte("value"), For: "p", KMSKey: []string{"", serviceKey}[i]}
		_, _, err := s.Prepare(ctx, e)
		errs = append(errs, err, s.Save(ctx, e))
	}
	_, err = s.Load(ctx, "leaf/prod/backend")
	return errors.Join(append(errs, err)...)
}

// until waits, and fails after ten seconds.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: nothing after ten seconds\n%s", what, &w.logs)
		}
	}
}

// TestNothingMissingNothingUnused: with the policies everything works, and they
// allow what was asked for, no more.
func TestNothingMissingNothingUnused(t *testing.T) {
	w := newWorld(t, "")
	for _, s := range steps {
		if err := s.do(w, t.Context()); err != nil {
			t.Errorf("%v: %v", s.prefixes, err)
		}
	}
	for policy, arn := range map[string]string{"control-plane": role, "task": "arn:aws:sts::111122223333:assumed-role/backend/" + taskID} {
		done, refused := w.called(arn)
		if len(refused) > 0 {
			t.Errorf("%s.json does not allow %v", policy, refused)
		}
		want := read(t, policy, w.ca)
		if policy == "control-plane" {
			want = append(want, read(t, "instances", "")...)
		}
		if d := cmp.Diff(done, actions(want)); d != "" {
			t.Errorf("%s.json (- is called and not in it, + is in it and not called):\n%s", policy, d)
		}
	}
}

// TestEachActionIsNamed takes the actions out one by one: what is said names the
// action, the resource, and a statement that allows it.
func TestEachActionIsNamed(t *testing.T) {
	for _, policy := range []string{"control-plane", "instances", "task"} {
		for _, action := range actions(read(t, policy, "")) {
			t.Run(action, func(t *testing.T) {
				t.Parallel()
				if action == "sts:GetCallerIdentity" {
					stsRefuses(t)
					return
				}
				w := newWorld(t, action)
				prefix, _, _ := strings.Cut(action, ":")
				said := ""
				for _, s := range steps { // what comes after a refusal may wait for what was refused
					if slices.Contains(s.prefixes, prefix) && !strings.Contains(said, " may not ") {
						said = fmt.Sprint(s.do(w, t.Context()), "\n", &w.logs)
					}
				}
				named(t, action, said)
			})
		}
	}
}

// stsRefuses: AWS lets every role ask who it is, so the stand-in does too,
// unless a policy of the network or the organization is in the way.
func stsRefuses(t *testing.T) {
	w := newWorld(t, "")
	w.aws.Inject(wire.Fault{Service: "sts", Error: "AccessDenied"})
	named(t, "sts:GetCallerIdentity", fmt.Sprint(w.admit(t.Context())))
}

// named fails if a text does not say what would allow an action.
func named(t *testing.T, action, text string) {
	t.Helper()
	_, rest, found := strings.Cut(text, " may not "+action+" on ")
	resource, rest, _ := strings.Cut(rest, "; ")
	statement, _, _ := strings.Cut(rest, "\n")
	if want := fmt.Sprintf(`"Action":"%s","Resource":"%s"`, action, resource); !found || !strings.Contains(statement, want) {
		t.Errorf("without %s it is not said how to allow it (%s):\n%s", action, want, text)
	}
}

// TestServiceKey: without its policy a service's own key is refused, and what
// is said names the key and the statement.
func TestServiceKey(t *testing.T) {
	w := newWorld(t, "")
	w.aws.Grant("role", wire.Principal{Secret: "secret", ARN: role, Statements: read(t, "control-plane", w.ca)})
	said := fmt.Sprint(w.keep(t.Context()))
	named(t, "kms:GenerateDataKey", said)
	if !strings.Contains(said, " on "+serviceKey+";") {
		t.Errorf("the key is not named: %s", said)
	}
}

// TestPages: the statements of the reference pages allow the same.
func TestPages(t *testing.T) {
	all := actions(append(read(t, "control-plane", ""), read(t, "instances", "")...))
	for page, prefixes := range map[string][]string{"private-ca": {"acm-pca:"}, "secrets-manager": {"secretsmanager:", "kms:"}, "task-roles": {"ec2:", "ecs:"}} {
		text, err := os.ReadFile("../../docs/reference/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "```json\n")
		policy, _, _ := strings.Cut(rest, "```")
		statements, err := wire.ParsePolicy([]byte(policy))
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, a := range all {
			if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(a, p) }) {
				want = append(want, a)
			}
		}
		if d := cmp.Diff(want, actions(statements)); d != "" {
			t.Errorf("%s.md (- deploy, + page):\n%s", page, d)
		}
	}
}

package policies

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	fakeec2 "patchbay/internal/awsfake/ec2"
	fakeecs "patchbay/internal/awsfake/ecs"
	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/secrets"
	fakesqs "patchbay/internal/awsfake/sqs"
	"patchbay/internal/awsfake/sts"
	"patchbay/internal/awsfake/wire"
	"patchbay/registry"
	"patchbay/registry/store"
)

const (
	region      = "us-east-1"
	account     = "111122223333"
	trustDomain = "prod.example"
	taskID      = "0123456789abcdef0123456789abcdef"
	machineID   = "i-0123456789abcdef0"
	role        = "arn:aws:sts::111122223333:assumed-role/patchbay-control-plane/1"
	kmsKey      = "arn:aws:kms:us-east-1:111122223333:key/1"
	serviceKey  = "arn:aws:kms:us-east-1:111122223333:key/2"
)

// read is a policy of this directory, filled in for a world.
func read(t *testing.T, name, ca string) []wire.Statement {
	t.Helper()
	return filled(t, name, ca, kmsKey)
}

func filled(t *testing.T, name, ca, key string) []wire.Statement {
	t.Helper()
	text, err := os.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	full := strings.NewReplacer("${name}", "patchbay", "${partition}", "aws", "${region}", region, "${account}", account, "${trust_domain}", trustDomain,
		"${ca_arn}", ca, "${kms_key_arn}", key, "${cluster_arn}", "arn:aws:ecs:us-east-1:111122223333:cluster/prod").Replace(string(text))
	statements, err := wire.ParsePolicy([]byte(full))
	if err != nil || strings.Contains(full, "${") {
		t.Fatalf("%s: %v\n%s", name, err, full)
	}
	return statements
}

// actions are those of statements, sorted, each once.
func actions(statements []wire.Statement) (all []string) {
	for _, s := range statements {
		all = append(all, s.Action...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// without are statements that allow one action less.
func without(statements []wire.Statement, action string) (out []wire.Statement) {
	for _, s := range statements {
		s.Action = slices.DeleteFunc(slices.Clone(s.Action), func(a string) bool { return a == action })
		if len(s.Action) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// world is AWS over its protocols, where the control plane has a policy.
type world struct {
	t     *testing.T
	aws   *wire.Server
	cloud *guard
	url   string // of AWS but for Cloud Map
	maps  string // of Cloud Map
	ca    string
	queue string
	ecs   *fakeecs.ECS
	sqs   *fakesqs.SQS
	logs  logs
}

func newWorld(t *testing.T, less string) *world {
	t.Helper()
	p := pca.New(pca.Options{})
	ca, err := p.Make(pca.Spec{KeyAlgorithm: "EC_secp384r1", SigningAlgorithm: "SHA512WITHECDSA", ShortLived: true})
	if err != nil {
		t.Fatal(err)
	}
	policy := without(slices.Concat(read(t, "control-plane", ca), read(t, "instances", ca), filled(t, "service-key", ca, serviceKey)), less)
	w := &world{t: t, ca: ca, ecs: fakeecs.New(), sqs: fakesqs.New()}
	w.sqs.Longest = time.Millisecond
	machines := fakeec2.New()
	machines.Put(fakeec2.Instance{ID: machineID, Profile: "arn:aws:iam::111122223333:instance-profile/backend", Addresses: []string{"10.0.1.17"}})
	w.aws = wire.New(wire.Options{Unlimited: true, Principals: map[string]wire.Principal{"role": {Secret: "secret", ARN: role, Statements: policy}}},
		p.API(), secrets.New(secrets.Options{Keys: []secrets.Key{{ARN: kmsKey}, {ARN: serviceKey}}}).API(), sts.API(), w.ecs.API(), machines.API(), w.sqs.API())
	w.aws.Grant("ASIATASK", wire.Principal{Secret: "task", Token: "session", Account: account, ARN: "arn:aws:sts::111122223333:assumed-role/backend/" + taskID, Statements: without(read(t, "task", ca), less)})
	w.aws.Grant("ASIAMACHINE", wire.Principal{Secret: "machine", Token: "session", Account: account, ARN: "arn:aws:sts::111122223333:assumed-role/backend/" + machineID, Statements: read(t, "task", ca)})
	h := httptest.NewServer(w.aws)
	reg := registry.New(&store.Memory{}, registry.Options{Region: region, Account: account})
	done := make(chan struct{})
	go func() { defer close(done); _ = reg.Run(t.Context()) }()
	w.cloud = &guard{Handler: reg, policy: policy}
	m := httptest.NewServer(w.cloud)
	t.Cleanup(func() { h.Close(); m.Close(); <-done })
	w.url, w.maps = h.URL, m.URL
	w.queue = w.sqs.Make(h.URL, region, account, "patchbay-events-0")
	w.ecs.Define("td", "arn:aws:iam::111122223333:role/backend")
	w.ecs.Put(fakeecs.Task{ID: taskID, Cluster: "prod", Service: "backend", Address: "10.0.1.17", Definition: "td"})
	return w
}

func (w *world) config() aws.Config {
	return aws.Config{Region: region, Credentials: credentials.NewStaticCredentialsProvider("role", "secret", "")}
}

func (w *world) log() *slog.Logger { return slog.New(slog.NewTextHandler(&w.logs, nil)) }

// called are the actions that a principal was allowed to do, and those that it
// was refused.
func (w *world) called(arn string) (done, refused []string) {
	for _, c := range w.aws.Calls() {
		if c.Principal.ARN != arn {
			continue
		}
		action := strings.TrimSuffix(c.Action(), "Batch") // IAM has no action for a batch
		if c.Error == "AccessDeniedException" || c.Error == "AccessDenied" {
			refused = append(refused, action)
			continue
		}
		if c.Error != "" {
			continue
		}
		done = append(done, action)
		for _, b := range c.Besides {
			done = append(done, b.Action)
		}
	}
	if arn == role {
		w.cloud.mu.Lock()
		defer w.cloud.mu.Unlock()
		done, refused = append(done, w.cloud.done...), append(refused, w.cloud.refused...)
	}
	slices.Sort(done)
	slices.Sort(refused)
	return slices.Compact(done), slices.Compact(refused)
}

// guard is IAM in front of our registry: it reads who asks for what, as AWS
// does, and keeps a record.
type guard struct {
	http.Handler
	policy []wire.Statement

	mu            sync.Mutex
	done, refused []string
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	var in struct {
		ServiceId string //nolint:revive // the API's name
		Tags      []any
	}
	if err := json.Unmarshal(body, &in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	resource := "*"
	if in.ServiceId != "" {
		resource = "arn:aws:servicediscovery:" + region + ":" + account + ":service/" + in.ServiceId
	}
	asks := []string{"servicediscovery:" + op}
	if len(in.Tags) > 0 && op != "TagResource" {
		asks = append(asks, "servicediscovery:TagResource")
	}
	for _, action := range asks {
		if !slices.ContainsFunc(g.policy, func(s wire.Statement) bool { return s.Fits(action, resource, nil) }) {
			g.note(&g.refused, action)
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"__type":"AccessDeniedException","Message":"User: %s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action"}`, role, action, resource, action)
			return
		}
	}
	for _, action := range asks {
		g.note(&g.done, action)
	}
	g.Handler.ServeHTTP(w, r)
}

func (g *guard) note(list *[]string, action string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	*list = append(*list, action)
}

func (g *guard) has(action string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Contains(g.done, action)
}

// logs is a log that can be read while it is written.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.ReplaceAll(l.b.String(), `\"`, `"`)
}

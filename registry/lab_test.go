package registry

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/aws/smithy-go"

	"patchbay/registry/store"
)

// lab is a running registry and the unmodified SDK, both in one synctest
// bubble: time moves when everything waits.
type lab struct {
	*sd.Client
	t      *testing.T
	o      Options
	open   func() store.Store
	store  store.Store
	server *Server
	stop   func()
	log    *text
}

// text is a log that can be read while it is written.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// kinds of stores that the suite runs over.
var kinds = map[string]func(t *testing.T) func() store.Store{
	"memory": func(*testing.T) func() store.Store {
		m := &store.Memory{}
		return func() store.Store { return m }
	},
	"bolt": func(t *testing.T) func() store.Store {
		file := filepath.Join(t.TempDir(), "registry.db")
		return func() store.Store {
			b, err := store.OpenBolt(file)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	},
}

// over runs f once for each kind of store, in a bubble.
func over(t *testing.T, o Options, f func(t *testing.T, l *lab)) {
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			open := kinds[kind](t)
			synctest.Test(t, func(t *testing.T) {
				l := &lab{t: t, o: o, open: open}
				l.start()
				defer func() { l.stop() }()
				f(t, l)
			})
		})
	}
}

func (l *lab) start() {
	if l.log == nil {
		l.log = &text{}
		l.o.Log = slog.New(slog.NewTextHandler(l.log, nil))
	}
	l.store = l.open()
	l.server = New(l.store, l.o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.server.Run(ctx) }()
	l.stop = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			l.t.Errorf("Run: %v", err)
		}
		if err := l.store.Close(); err != nil {
			l.t.Error(err)
		}
	}
	l.Client = sd.New(sd.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://cloudmap"), HTTPClient: inProcess{l.server}, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AK", SecretAccessKey: "SK"}, nil
		}),
	})
}

// restart ends the registry and starts one on what it has left.
func (l *lab) restart() {
	l.stop()
	l.start()
}

// inProcess is an HTTP client that calls the server.
type inProcess struct{ h http.Handler }

func (p inProcess) Do(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	p.h.ServeHTTP(w, in)
	return w.Result(), nil
}

// failsWith holds an error against its type and what it must say.
func failsWith(t *testing.T, what string, err error, kind string, says ...string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != kind {
		t.Errorf("%s: %v, want %s", what, err, kind)
		return
	}
	for _, s := range says {
		if !strings.Contains(api.ErrorMessage(), s) {
			t.Errorf("%s: %q does not say %q", what, api.ErrorMessage(), s)
		}
	}
}

// done waits until the operations that have been started are over.
func (l *lab) done() { synctest.Wait() }

// outcome is an operation as it is.
func (l *lab) outcome(id *string) *types.Operation {
	l.t.Helper()
	return must[*sd.GetOperationOutput](l.t)(l.GetOperation(l.t.Context(), &sd.GetOperationInput{OperationId: id})).Operation
}

// namespace makes one of type HTTP.
func (l *lab) namespace(name string) string {
	l.t.Helper()
	op := must[*sd.CreateHttpNamespaceOutput](l.t)(l.CreateHttpNamespace(l.t.Context(), &sd.CreateHttpNamespaceInput{Name: &name}))
	l.done()
	return l.outcome(op.OperationId).Targets["NAMESPACE"]
}

// service makes one whose instances have a custom health.
func (l *lab) service(ns, name string, change ...func(*sd.CreateServiceInput)) string {
	l.t.Helper()
	in := &sd.CreateServiceInput{Name: &name, NamespaceId: &ns, HealthCheckCustomConfig: &types.HealthCheckCustomConfig{}}
	for _, f := range change {
		f(in)
	}
	return *must[*sd.CreateServiceOutput](l.t)(l.CreateService(l.t.Context(), in)).Service.Id
}

// register adds an instance with these attributes besides an address:
// "key=value".
func (l *lab) register(svc, id string, attributes ...string) *types.Operation {
	l.t.Helper()
	a := map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.1"}
	for _, kv := range attributes {
		k, v, _ := strings.Cut(kv, "=")
		a[k] = v
	}
	op := must[*sd.RegisterInstanceOutput](l.t)(l.RegisterInstance(l.t.Context(), &sd.RegisterInstanceInput{ServiceId: &svc, InstanceId: &id, Attributes: a}))
	l.done()
	return l.outcome(op.OperationId)
}

func (l *lab) deregister(svc, id string) {
	l.t.Helper()
	must[*sd.DeregisterInstanceOutput](l.t)(l.DeregisterInstance(l.t.Context(), &sd.DeregisterInstanceInput{ServiceId: &svc, InstanceId: &id}))
	l.done()
}

func (l *lab) set(svc, id string, status types.CustomHealthStatus) error {
	_, err := l.UpdateInstanceCustomHealthStatus(l.t.Context(), &sd.UpdateInstanceCustomHealthStatusInput{ServiceId: &svc, InstanceId: &id, Status: status})
	l.done()
	return err
}

// seen is what DiscoverInstances answers, sorted: "one:HEALTHY two:UNKNOWN".
func (l *lab) seen(ns, svc string, change ...func(*sd.DiscoverInstancesInput)) (ids string, revision int64) {
	l.t.Helper()
	in := &sd.DiscoverInstancesInput{NamespaceName: &ns, ServiceName: &svc, MaxResults: aws.Int32(1000)}
	for _, f := range change {
		f(in)
	}
	out := must[*sd.DiscoverInstancesOutput](l.t)(l.DiscoverInstances(l.t.Context(), in))
	var all []string
	for _, i := range out.Instances {
		all = append(all, *i.InstanceId+":"+string(i.HealthStatus))
	}
	slices.Sort(all)
	return strings.Join(all, " "), *out.InstancesRevision
}

// expect holds what is seen of demo's backend.
func (l *lab) expect(when, want string) {
	l.t.Helper()
	if got, _ := l.seen("demo", "backend"); got != want {
		l.t.Errorf("%s: %q, want %q", when, got, want)
	}
}

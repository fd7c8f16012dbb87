package registrar

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"

	"patchbay/discovery/cloud"
	"patchbay/registry"
	"patchbay/registry/store"
)

// newCloud is our registry behind the SDK's own client.
func newCloud(t *testing.T) sdAPI {
	t.Helper()
	api, _ := newTapped(t)
	return api
}

// wiretap is what went over the wire: the names of operations.
type wiretap struct {
	mu  sync.Mutex
	all []string
}

// since returns what went since the last call.
func (w *wiretap) since() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all
	w.all = nil
	return all
}

// changing are those of operations that change something.
func changing(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(op string) bool {
		return strings.HasPrefix(op, "List") || strings.HasPrefix(op, "Get") || strings.HasPrefix(op, "Discover")
	})
}

func newTapped(t *testing.T) (sdAPI, *wiretap) {
	t.Helper()
	tap := &wiretap{}
	reg := registry.New(&store.Memory{}, registry.Options{})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = reg.Run(ctx) }()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		tap.mu.Lock()
		tap.all = append(tap.all, op)
		tap.mu.Unlock()
		reg.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { srv.Close(); stop(); <-done })
	cfg := aws.Config{Region: "us-east-1", Credentials: aws.AnonymousCredentials{}}
	return cloud.NewClient(cfg, cloud.ClientOptions{Endpoint: srv.URL, Attempts: 1}), tap
}

// sdAPI is what the tests need besides.
type sdAPI interface {
	API
	DeleteService(context.Context, *sd.DeleteServiceInput, ...func(*sd.Options)) (*sd.DeleteServiceOutput, error)
}

// faulty lets single calls of a real API fail, and records the writes.
type faulty struct {
	sdAPI
	mu  sync.Mutex
	op  string
	err error
	log []string
}

func (f *faulty) fail(op string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.op, f.err = op, err
}

func (f *faulty) called(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, op)
	if f.op == op {
		return f.err
	}
	return nil
}

func (f *faulty) index(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Index(f.log, op)
}

func through[In, Out any](ctx context.Context, f *faulty, op string, call func(context.Context, In, ...func(*sd.Options)) (Out, error), in In) (Out, error) {
	if err := f.called(op); err != nil {
		var none Out
		return none, err
	}
	return call(ctx, in)
}

func (f *faulty) ListNamespaces(ctx context.Context, in *sd.ListNamespacesInput, _ ...func(*sd.Options)) (*sd.ListNamespacesOutput, error) {
	return through(ctx, f, "ListNamespaces", f.sdAPI.ListNamespaces, in)
}

func (f *faulty) CreateHttpNamespace(ctx context.Context, in *sd.CreateHttpNamespaceInput, _ ...func(*sd.Options)) (*sd.CreateHttpNamespaceOutput, error) { //nolint:revive // the name is the SDK's
	return through(ctx, f, "CreateHttpNamespace", f.sdAPI.CreateHttpNamespace, in)
}

func (f *faulty) ListServices(ctx context.Context, in *sd.ListServicesInput, _ ...func(*sd.Options)) (*sd.ListServicesOutput, error) {
	return through(ctx, f, "ListServices", f.sdAPI.ListServices, in)
}

func (f *faulty) CreateService(ctx context.Context, in *sd.CreateServiceInput, _ ...func(*sd.Options)) (*sd.CreateServiceOutput, error) {
	return through(ctx, f, "CreateService", f.sdAPI.CreateService, in)
}

func (f *faulty) GetServiceAttributes(ctx context.Context, in *sd.GetServiceAttributesInput, _ ...func(*sd.Options)) (*sd.GetServiceAttributesOutput, error) {
	return through(ctx, f, "GetServiceAttributes", f.sdAPI.GetServiceAttributes, in)
}

func (f *faulty) UpdateServiceAttributes(ctx context.Context, in *sd.UpdateServiceAttributesInput, _ ...func(*sd.Options)) (*sd.UpdateServiceAttributesOutput, error) {
	return through(ctx, f, "UpdateServiceAttributes", f.sdAPI.UpdateServiceAttributes, in)
}

func (f *faulty) GetInstance(ctx context.Context, in *sd.GetInstanceInput, _ ...func(*sd.Options)) (*sd.GetInstanceOutput, error) {
	return through(ctx, f, "GetInstance", f.sdAPI.GetInstance, in)
}

func (f *faulty) RegisterInstance(ctx context.Context, in *sd.RegisterInstanceInput, _ ...func(*sd.Options)) (*sd.RegisterInstanceOutput, error) {
	return through(ctx, f, "RegisterInstance", f.sdAPI.RegisterInstance, in)
}

func (f *faulty) DeregisterInstance(ctx context.Context, in *sd.DeregisterInstanceInput, _ ...func(*sd.Options)) (*sd.DeregisterInstanceOutput, error) {
	return through(ctx, f, "DeregisterInstance", f.sdAPI.DeregisterInstance, in)
}

func (f *faulty) GetOperation(ctx context.Context, in *sd.GetOperationInput, _ ...func(*sd.Options)) (*sd.GetOperationOutput, error) {
	return through(ctx, f, "GetOperation", f.sdAPI.GetOperation, in)
}

package registrar

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/discovery/cloud"
	"patchbay/registry"
	"patchbay/registry/store"
)

// direct is our registry behind the SDK's own client, without a network: for
// tests in which time is made.
func direct(t *testing.T) sdAPI {
	t.Helper()
	reg := registry.New(&store.Memory{}, registry.Options{})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = reg.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	cfg := aws.Config{Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, HTTPClient: transport(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		reg.ServeHTTP(w, r)
		return w.Result(), nil
	})}
	return cloud.NewClient(cfg, cloud.ClientOptions{Endpoint: "http://127.0.0.1:1", Attempts: 1})
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) Do(r *http.Request) (*http.Response, error) { return f(r) }

// carried is how long after it was asked for a late write is carried out.
const carried = 30 * time.Second

// tardy carries out some writes late: the caller of one is told nothing until it
// gives up, or that an operation is under way.
type tardy struct {
	sdAPI
	ctx context.Context //nolint:containedctx // the test's: a late write has no caller
	all sync.WaitGroup

	mu      sync.Mutex
	late    string // the operation whose next call is late; empty: none
	answers bool   // with an operation, as AWS does when it has got the call
	pending bool   // such an operation is under way
}

func (f *tardy) delays(op string, do func(context.Context) error) (answered, delayed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.late != op {
		return false, false
	}
	f.late, f.pending = "", f.answers
	f.all.Go(func() {
		time.Sleep(carried)
		if err := do(f.ctx); err != nil && !errors.As(err, new(*types.InstanceNotFound)) {
			panic(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.pending = false
	})
	return f.answers, true
}

func (f *tardy) underWay() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pending
}

func (f *tardy) RegisterInstance(ctx context.Context, in *sd.RegisterInstanceInput, _ ...func(*sd.Options)) (*sd.RegisterInstanceOutput, error) {
	answered, delayed := f.delays("RegisterInstance", func(ctx context.Context) error { _, err := f.sdAPI.RegisterInstance(ctx, in); return err })
	switch {
	case answered:
		return &sd.RegisterInstanceOutput{OperationId: aws.String("late")}, nil
	case delayed:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return f.sdAPI.RegisterInstance(ctx, in)
}

func (f *tardy) DeregisterInstance(ctx context.Context, in *sd.DeregisterInstanceInput, _ ...func(*sd.Options)) (*sd.DeregisterInstanceOutput, error) {
	if f.underWay() {
		return nil, &types.DuplicateRequest{DuplicateOperationId: aws.String("late")}
	}
	_, delayed := f.delays("DeregisterInstance", func(ctx context.Context) error { _, err := f.sdAPI.DeregisterInstance(ctx, in); return err })
	if delayed {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return f.sdAPI.DeregisterInstance(ctx, in)
}

func (f *tardy) GetOperation(ctx context.Context, in *sd.GetOperationInput, _ ...func(*sd.Options)) (*sd.GetOperationOutput, error) {
	if aws.ToString(in.OperationId) != "late" {
		return f.sdAPI.GetOperation(ctx, in)
	}
	status := types.OperationStatusSuccess
	if f.underWay() {
		status = types.OperationStatusPending
	}
	return &sd.GetOperationOutput{Operation: &types.Operation{Status: status}}, nil
}

// unsureTest is a registrar whose registry carries out one call of op late.
func unsureTest(t *testing.T, f func(t *testing.T, api *tardy, r *Registrar, d *told)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		api := &tardy{sdAPI: direct(t), ctx: t.Context()}
		r, d := replica(api)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		must(t, r, request("backend", "t0", 9)) // the service is there, and stays
		f(t, api, r, d)
		api.all.Wait()
		stop()
		<-done
	})
}

// after lets time pass, and returns which instances there are then.
func after(t *testing.T, api sdAPI, d time.Duration) string {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	var ids []string
	for id := range instances(t, api, "backend") {
		if id != "t0.web" {
			ids = append(ids, id)
		}
	}
	return strings.Join(ids, " ")
}

func brief(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), d)
	t.Cleanup(stop)
	return ctx
}

// A task leaves while its registration is under way: whoever asked for it has
// given up, and the registry carries it out all the same, after the end.
func TestALateRegistrationBringsNobodyBack(t *testing.T) {
	for _, answers := range []bool{false, true} {
		unsureTest(t, func(t *testing.T, api *tardy, r *Registrar, d *told) {
			api.late, api.answers = "RegisterInstance", answers
			req := request("backend", "t1", 1)
			if _, err := r.Register(brief(t, time.Second), req); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			err := r.Deregister(brief(t, 10*time.Second), req.Instance)
			if (err != nil) != answers { // an operation is waited for
				t.Errorf("answers %v: %v", answers, err)
			}
			if !strings.Contains(d.String(), "leaving backend.prod t1.web") {
				t.Errorf("discovery is told %s", d)
			}
			if got := after(t, api, carried+doubtEvery+time.Second); got != "" {
				t.Errorf("answers %v: %s is back", answers, got)
			}
			if !strings.HasSuffix(d.String(), "hint backend.prod") {
				t.Errorf("discovery is told %s", d)
			}
			after(t, api, late)
			if len(r.failed) != 0 || len(r.unsure) != 0 {
				t.Errorf("left: %v, %v", r.failed, r.unsure)
			}
		})
	}
}

// The same, and the task is registered anew, by another control plane: that is
// not what is looked for.
func TestANewRegistrationElsewhereIsLeftAlone(t *testing.T) {
	unsureTest(t, func(t *testing.T, api *tardy, r *Registrar, _ *told) {
		api.late = "RegisterInstance"
		req := request("backend", "t1", 1)
		if _, err := r.Register(brief(t, time.Second), req); err == nil {
			t.Fatal("no error")
		}
		if err := r.Deregister(t.Context(), req.Instance); err != nil {
			t.Fatal(err)
		}
		api.all.Wait() // it is carried out, and found
		after(t, api, doubtEvery)
		other, _ := replica(api)
		must(t, other, req)
		if got := after(t, api, late+time.Second); got != "t1.web" {
			t.Errorf("%q is there", got)
		}
	})
}

// A deregistration that was given up takes out the registration that followed: it
// is missed within seconds, not minutes.
func TestALateDeregistrationIsMissedSoon(t *testing.T) {
	unsureTest(t, func(t *testing.T, api *tardy, r *Registrar, _ *told) {
		req := request("backend", "t1", 1)
		must(t, r, req)
		api.late = "DeregisterInstance"
		if err := r.Deregister(brief(t, time.Second), req.Instance); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		must(t, r, req)
		api.all.Wait()
		if got := after(t, api, 0); got != "" {
			t.Fatalf("%s is there: nothing was late", got)
		}
		for range 3 { // as agents send health
			time.Sleep(doubtEvery / 2)
			if err := r.Heartbeat(t.Context(), req.Instance); errors.Is(err, ErrNotRegistered) {
				must(t, r, req)
				break
			} else if err != nil {
				t.Error(err)
			}
		}
		if got := after(t, api, 2*late); got != "t1.web" {
			t.Errorf("%q is there", got)
		}
		if l := r.live[req.key()]; time.Until(l.look) > lookEvery {
			t.Errorf("it is looked for in %v", time.Until(l.look))
		}
	})
}

// What the registry refuses is not carried out, and so not looked for.
func TestARefusedRegistrationIsNotLookedFor(t *testing.T) {
	api := newCloud(t)
	calls := &faulty{sdAPI: api}
	r, _ := replica(calls)
	must(t, r, request("backend", "t0", 9))
	for _, err := range []error{&types.ResourceLimitExceeded{}, &types.InvalidInput{}, &types.RequestLimitExceeded{}} {
		calls.fail("RegisterInstance", err)
		req := request("backend", "t1", 1)
		if _, got := r.Register(t.Context(), req); got == nil || len(r.unsure) != 0 {
			t.Errorf("%v: %v", got, r.unsure)
		}
		if at, err := r.owned(t.Context(), req.Instance); err != nil || at.serviceID != "" {
			t.Errorf("%+v, %v", at, err)
		}
	}
}

package directory_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/internal/awsfake/accounts"
	"patchbay/mesh/record"
	"patchbay/registry"
	"patchbay/registry/store"
	"patchbay/replicas/directory"
)

// direct carries requests to a handler without a network, so that everything is
// in one bubble.
type direct struct{ http.Handler }

func (d direct) Do(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

func client(h http.Handler) *sd.Client {
	return sd.New(sd.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://cloudmap"), Credentials: aws.AnonymousCredentials{}, HTTPClient: direct{h}, RetryMaxAttempts: 1})
}

// inCloud runs f over our registry, in a bubble.
func inCloud(t *testing.T, f func(t *testing.T, api *sd.Client)) {
	synctest.Test(t, func(t *testing.T) { f(t, client(newRegistry(t, ""))) })
}

func newRegistry(t *testing.T, account string) http.Handler {
	reg := registry.New(&store.Memory{}, registry.Options{Account: account})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = reg.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return reg
}

func namespace(t *testing.T, api *sd.Client, name string) (id string) {
	t.Helper()
	if _, err := api.CreateHttpNamespace(t.Context(), &sd.CreateHttpNamespaceInput{Name: &name}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	out, err := api.ListNamespaces(t.Context(), &sd.ListNamespacesInput{})
	if err != nil || len(out.Namespaces) != 1 {
		t.Fatalf("%v, %v", out, err)
	}
	return aws.ToString(out.Namespaces[0].Id)
}

// joins keeps a replica written down until stop is called; ended is what came of
// it.
func joins(t *testing.T, d *directory.Directory, self string) (stop func(), ended <-chan error) {
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- d.Join(ctx, self) }()
	t.Cleanup(cancel)
	time.Sleep(time.Second)
	return cancel, end
}

func list(t *testing.T, d *directory.Directory) string {
	t.Helper()
	all, err := d.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestReplicasFindEachOther(t *testing.T) {
	inCloud(t, func(t *testing.T, api *sd.Client) {
		namespace(t, api, "prod")
		a, b := directory.New(directory.Options{Namespace: "prod"}, api), directory.New(directory.Options{Namespace: "prod"}, api)
		if _, err := b.List(t.Context()); err == nil || !strings.Contains(err.Error(), record.ReplicasService) {
			t.Errorf("before anybody came: %v", err)
		}
		stop, ended := joins(t, a, "10.0.0.1:18005")
		joins(t, b, "[2001:db8::1]:18005")
		const both = "10.0.0.1:18005 [2001:db8::1]:18005"
		if got := list(t, a); got != both {
			t.Errorf("a sees %q", got)
		}
		time.Sleep(time.Hour) // without a lease it stays
		if got := list(t, b); got != both {
			t.Errorf("an hour later b sees %q", got)
		}
		// A replica that starts again at its address is one, not two.
		joins(t, directory.New(directory.Options{Namespace: "prod"}, api), "10.0.0.1:18005")
		if got := list(t, b); got != both {
			t.Errorf("started twice: %q", got)
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Join: %v", err)
		}
		time.Sleep(time.Second)
		if got := list(t, b); got != "[2001:db8::1]:18005" {
			t.Errorf("after it left b sees %q", got)
		}
	})
}

// One that was taken out by mistake finds out, and returns so that it is written
// down again.
func TestAReplicaThatWasTakenOutNotices(t *testing.T) {
	for what, lease := range map[string]time.Duration{"by looking": 0, "by its lease": 15 * time.Second} {
		t.Run(what, func(t *testing.T) {
			inCloud(t, func(t *testing.T, api *sd.Client) {
				namespace(t, api, "prod")
				a, b := directory.New(directory.Options{Namespace: "prod", Lease: lease}, api), directory.New(directory.Options{Namespace: "prod", Lease: lease}, api)
				_, ended := joins(t, a, "10.0.0.1:18005")
				if err := b.Forget(t.Context(), "10.0.0.1:18005"); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				err := <-ended
				if err == nil || !strings.Contains(err.Error(), "10.0.0.1:18005") || time.Since(began) > 5*time.Minute {
					t.Errorf("after %s: %v", time.Since(began), err)
				}
			})
		})
	}
}

// With a lease, one that dies is not there for long.
func TestAReplicaThatDiesGoesByItsLease(t *testing.T) {
	inCloud(t, func(t *testing.T, api *sd.Client) {
		id := namespace(t, api, "prod")
		a, b := directory.New(directory.Options{Namespace: "prod", Lease: 15 * time.Second}, api), directory.New(directory.Options{Namespace: "prod", Lease: 15 * time.Second}, api)
		joins(t, a, "10.0.0.1:18005")
		services, err := api.ListServices(t.Context(), &sd.ListServicesInput{})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(services.Services, func(s types.ServiceSummary) bool { return aws.ToString(s.Name) == record.ReplicasService })
		if i < 0 || id == "" {
			t.Fatalf("%v", services)
		}
		_, err = api.RegisterInstance(t.Context(), &sd.RegisterInstanceInput{ServiceId: services.Services[i].Id, InstanceId: aws.String("replica-dead"),
			Attributes: map[string]string{record.AttrIPv4: "10.0.0.9", record.AttrPort: "18005", record.AttrLease: "15"}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := list(t, b); got != "10.0.0.1:18005 10.0.0.9:18005" {
			t.Errorf("at first %q", got)
		}
		time.Sleep(2 * time.Minute)
		if got := list(t, b); got != "10.0.0.1:18005" {
			t.Errorf("two minutes later %q", got)
		}
	})
}

func TestWhereTheDirectoryCannotBe(t *testing.T) {
	inCloud(t, func(t *testing.T, api *sd.Client) {
		missing := directory.New(directory.Options{Namespace: "prod"}, api)
		if err := missing.Join(t.Context(), "10.0.0.1:18005"); err == nil || !strings.Contains(err.Error(), "prod") {
			t.Errorf("without a namespace: %v", err)
		}
		making := directory.New(directory.Options{Namespace: "prod", Create: true}, api)
		if err := making.Join(t.Context(), "10.0.0.1:18005"); err == nil || !strings.Contains(err.Error(), "is being made") {
			t.Errorf("while it is made: %v", err)
		}
		time.Sleep(time.Second)
		out, err := api.ListNamespaces(t.Context(), &sd.ListNamespacesInput{})
		if err != nil || len(out.Namespaces) != 1 {
			t.Fatalf("%v, %v", out, err)
		}
		made, err := api.CreateService(t.Context(), &sd.CreateServiceInput{Name: aws.String(record.ReplicasService), NamespaceId: out.Namespaces[0].Id})
		if err != nil {
			t.Fatal(err)
		}
		err = making.Join(t.Context(), "10.0.0.1:18005")
		if err == nil || !strings.Contains(err.Error(), aws.ToString(made.Service.Arn)) || !strings.Contains(err.Error(), "delete it or rename it") {
			t.Errorf("a service of somebody else: %v", err)
		}
		if err := making.Join(t.Context(), "somewhere"); err == nil {
			t.Error("an address that is none was written down")
		}
	})
}

// The namespace may be another account's.
func TestInASharedNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mine, theirs = "111111111111", "222222222222"
		all := map[string]http.Handler{mine: newRegistry(t, mine), theirs: newRegistry(t, theirs)}
		id := namespace(t, client(all[theirs]), "prod")
		arn := "arn:aws:servicediscovery:us-east-1:" + theirs + ":namespace/" + id
		d := directory.New(directory.Options{Namespace: arn}, client(accounts.View{Account: mine, All: all}))
		stop, ended := joins(t, d, "10.0.0.1:18005")
		if got := list(t, d); got != "10.0.0.1:18005" {
			t.Errorf("it sees %q", got)
		}
		stop()
		<-ended
		time.Sleep(time.Second)
		if got := list(t, d); got != "" {
			t.Errorf("after it left: %q", got)
		}
	})
}

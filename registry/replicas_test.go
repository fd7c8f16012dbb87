package registry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"

	"patchbay/internal/etcdtest"
	"patchbay/registry/store"
	"patchbay/registry/store/etcd"
	"patchbay/registry/watch"
)

func inEtcd(e *etcdtest.Server) store.Store {
	return etcd.New(etcd.Options{Client: e.Client(), Prefix: "/patchbay/registry/", Patience: time.Second})
}

// until asks again until ok or too late; what is it that it waits for.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("too late: %s", what)
		}
	}
}

func registerAt(t *testing.T, c *sd.Client, service, id string, attributes ...string) error {
	a := map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.1"}
	for _, kv := range attributes {
		k, v, _ := strings.Cut(kv, "=")
		a[k] = v
	}
	op, err := c.RegisterInstance(t.Context(), &sd.RegisterInstanceInput{ServiceId: &service, InstanceId: &id, Attributes: a})
	if err == nil {
		finished(t, c, op.OperationId)
	}
	return err
}

// What one replica has acknowledged, another finds at once; a watcher on one
// hears of changes on another; whoever registers where, all are counted.
func TestReplicasOnOneEtcd(t *testing.T) {
	e := etcdtest.Start(t)
	var clients []*sd.Client
	var servers []*Server
	for range 3 {
		s := newServer(t, inEtcd(e))
		servers, clients = append(servers, s), append(clients, client(t, s))
	}
	a, b := clients[0], clients[1]
	id := life(t, a)
	if err := registerAt(t, b, id, "first"); err != nil { // b may not have heard of the service yet
		t.Fatal(err)
	}
	events := make(chan watch.Event, 1000)
	srv := httptest.NewServer(servers[1])
	t.Cleanup(srv.Close)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- (&watch.Client{URL: srv.URL}).Run(ctx, func(e watch.Event) { events <- e })
	}()
	t.Cleanup(func() { stop(); <-done })
	if first := <-events; first.Kind != watch.Resync {
		t.Fatalf("the watch begins with %v", first)
	}
	if err := registerAt(t, a, id, "second"); err != nil {
		t.Fatal(err)
	}
	for e := range events {
		if e.Kind == watch.Instances {
			break
		}
	}
	if ids, _ := discover(t, b, all); ids != "first:HEALTHY second:HEALTHY t0:HEALTHY t1:HEALTHY" {
		t.Errorf("after the event the other replica has %q", ids)
	}
	var wg sync.WaitGroup
	const each = 20
	for n, c := range clients {
		for i := range each {
			wg.Go(func() {
				if err := registerAt(t, c, id, fmt.Sprintf("of-%d-%d", n, i)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for _, c := range clients {
		until(t, "all are seen", func() bool {
			ids, revision := discover(t, c, all)
			return len(strings.Fields(ids)) == 3*each+4 && revision >= 3*each+4
		})
	}
	got := must[*sd.GetServiceOutput](t)(a.GetService(t.Context(), &sd.GetServiceInput{Id: &id})).Service
	if *got.InstanceCount != 3*each+4 {
		t.Errorf("%d are counted", *got.InstanceCount)
	}
}

// kill -9 of a replica loses nothing that it has acknowledged: what it had
// only accepted, another carries out.
func TestAKilledReplica(t *testing.T) {
	e := etcdtest.Start(t)
	other := client(t, newServer(t, inEtcd(e)))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestRegisterForEver$")
	cmd.Env = append(os.Environ(), "REGISTRY_ETCD="+e.URL)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	for lines := bufio.NewScanner(out); len(acknowledged) < 40 && lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "acknowledged "); ok {
			acknowledged = append(acknowledged, id)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if len(acknowledged) < 40 {
		t.Fatalf("the process acknowledged %d", len(acknowledged))
	}
	until(t, "everything that was acknowledged", func() bool {
		ids, _ := discover(t, other, all)
		for _, id := range acknowledged {
			if !strings.Contains(ids+" ", id+":HEALTHY ") {
				return false
			}
		}
		return true
	})
}

// Without etcd a replica answers what it knows and says of all else that it
// can't; never an empty answer. Afterwards it takes changes again.
func TestARegistryWithoutItsEtcd(t *testing.T) {
	e := etcdtest.Start(t)
	s := newServer(t, inEtcd(e))
	c := client(t, s)
	id := life(t, c)
	if err := registerAt(t, c, id, "one"); err != nil {
		t.Fatal(err)
	}
	e.Kill()
	if ids, _ := discover(t, c, all); ids != "one:HEALTHY t0:HEALTHY t1:HEALTHY" {
		t.Errorf("from memory: %q", ids)
	}
	short := client(t, s)
	_, err := short.GetService(t.Context(), &sd.GetServiceInput{Id: str("srv-unknown")}, once)
	failsWith(t, "what it does not know", err, "ServiceUnavailable", "can't reach the store")
	_, err = short.CreateService(t.Context(), &sd.CreateServiceInput{Name: str("new"), NamespaceId: str("ns-x")}, once)
	failsWith(t, "a change", err, "ServiceUnavailable")
	late := newServer(t, inEtcd(e)) // one that starts meanwhile
	_, err = client(t, late).ListServices(t.Context(), &sd.ListServicesInput{}, once)
	failsWith(t, "a replica that has read nothing", err, "ServiceUnavailable")
	w := httptest.NewRecorder()
	late.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/healthz", nil))
	if w.Code != 503 {
		t.Errorf("its health is %d: %s", w.Code, w.Body)
	}
	e.Up()
	until(t, "a change afterwards", func() bool { return registerAt(t, c, id, "two") == nil })
	until(t, "the late one", func() bool {
		out, err := client(t, late).ListServices(t.Context(), &sd.ListServicesInput{}, once)
		return err == nil && len(out.Services) == 1
	})
	until(t, "everything on the late one", func() bool {
		ids, _ := discover(t, client(t, late), all)
		return ids == "one:HEALTHY t0:HEALTHY t1:HEALTHY two:HEALTHY"
	})
}

func once(o *sd.Options) { o.RetryMaxAttempts = 1 }

// A heartbeat on one replica keeps the lease on all of them.
func TestHeartbeatsAreShared(t *testing.T) {
	e := etcdtest.Start(t)
	one, two := newServer(t, inEtcd(e)), newServer(t, inEtcd(e))
	a, b := client(t, one), client(t, two)
	id := life(t, a)
	for _, name := range []string{"heard", "silent"} {
		if err := registerAt(t, a, id, name, tenSeconds); err != nil {
			t.Fatal(err)
		}
	}
	beat := func(c *sd.Client) {
		t.Helper()
		must[*sd.UpdateInstanceCustomHealthStatusOutput](t)(c.UpdateInstanceCustomHealthStatus(t.Context(), &sd.UpdateInstanceCustomHealthStatusInput{
			ServiceId: &id, InstanceId: str("heard"), Status: "HEALTHY"}))
	}
	until(t, "both have the leases", func() bool { n, _ := two.leases.Len(); m, _ := one.leases.Len(); return n == 2 && m == 2 })
	beat(b)
	due, _ := one.leases.Due(time.Now().Add(11 * time.Second)) // as if a period had passed on the other
	if len(due) != 2 {
		t.Fatalf("due: %v", due)
	}
	missed, err := one.one.Missed(due)
	if err != nil || len(missed) != 1 || missed[0].Key != id+"/silent" {
		t.Errorf("missed: %v, %v", missed, err)
	}
	e.Kill()
	if missed, err := one.one.Missed(due); !errors.Is(err, store.ErrUnavailable) || missed != nil {
		t.Errorf("without etcd %v are missed, %v", missed, err)
	}
}

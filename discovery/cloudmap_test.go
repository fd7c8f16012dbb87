package discovery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/aws/smithy-go"

	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/mesh/record"
	"patchbay/registry/watch"
)

const five = "a.http b.http c.http d.http e.http"

func TestServicesReachTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.own(t, "backend", plain(mesh.HTTP, "backend"), 2)
		m.services["Legacy"] = &memoryService{id: "srv-l", revision: 1, attrs: nil, instances: map[string]memoryInstance{
			"x": {attrs: map[string]string{record.AttrIPv4: "10.1.0.1", record.AttrPort: "5432"}, health: "UNKNOWN"}}}
		m.services["bad.name"] = &memoryService{id: "srv-b"}
		w := start(t, m)
		after(0)
		snap := w.store.Snapshot()
		if !snap.Synced["prod"] || len(snap.Services) != 2 {
			t.Fatalf("synced %v with %d services", snap.Synced, len(snap.Services))
		}
		b, l := snap.Services[0], snap.Services[1]
		if b.Protocol != mesh.HTTP || b.Foreign || len(b.Endpoints) != 2 || !b.Aliases[0].VIP.IsValid() {
			t.Errorf("backend: %+v", b)
		}
		if l.Name.DiscoveryName != "legacy" || l.Protocol != mesh.TCP || !l.Foreign || l.Aliases[0].DNSName != "legacy.prod" || l.Aliases[0].Port != 5432 {
			t.Errorf("legacy: %+v", l)
		}
		st := w.cm.Status()[0]
		if st.Rejected["bad.name"] == "" || !st.Synced || st.Stale || st.Services[0].Source != Live {
			t.Errorf("status: %+v", st)
		}
	})
}

func TestChangesAreSeenByRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 2)
		w := start(t, m)
		after(time.Second)
		w.cm.Hint(mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}) // hot for ten seconds
		after(500 * time.Millisecond)
		m.do(func() { s.add(2) })
		after(510 * time.Millisecond)
		w.expect(t, "a second after the hint", "backend", "a.http b.http c.http")
		after(time.Minute)
		m.do(func() { s.add(3) })
		after(30 * time.Second)
		w.expect(t, "without a hint", "backend", "a.http b.http c.http d.http")
		m.do(func() {
			i := s.instances["a.http"]
			i.health = "UNHEALTHY"
			s.instances["a.http"] = i // no new revision, by contract
		})
		after(30 * time.Second)
		got := w.store.Snapshot().Services[0].Endpoints[0]
		if got.Health != mesh.Unhealthy {
			t.Errorf("health is %v after the period of full fetches", got.Health)
		}
	})
}

func TestErrorsRemoveNothing(t *testing.T) {
	for _, c := range []struct {
		what string
		err  error
	}{
		{"connection refused", errDown},
		{"throttled", &smithy.GenericAPIError{Code: "RequestLimitExceeded"}},
		{"denied", &smithy.GenericAPIError{Code: "AccessDeniedException"}},
		{"namespace not found", &types.NamespaceNotFound{}},
		{"service not found, though it is listed", nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 5)
				w := start(t, m)
				after(time.Minute)
				m.do(func() {
					s.hidden = c.err == nil
					m.fail = func(string, string) error { return c.err }
				})
				after(10 * time.Minute)
				w.expect(t, "ten minutes later", "backend", five)
				if st := w.cm.Status()[0].Services[0]; st.Source != LastKnownGood || st.Error == "" {
					t.Errorf("status: %+v", st)
				}
				m.do(func() { m.fail, s.hidden = nil, false; s.add(5) })
				after(12 * time.Second)
				w.expect(t, "after the end of it", "backend", five+" f.http")
			})
		})
	}
}

func TestOneFailingServiceDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.own(t, "ill", plain(mesh.HTTP, "ill"), 2)
		s := m.own(t, "well", plain(mesh.HTTP, "well"), 2)
		w := start(t, m)
		after(time.Minute)
		m.do(func() {
			m.fail = func(_, service string) error {
				if service == "ill" {
					return errDown
				}
				return nil
			}
		})
		w.cm.Hint(mesh.ServiceName{Namespace: "prod", DiscoveryName: "well"})
		after(time.Minute)
		m.do(func() { s.add(2) })
		w.cm.Hint(mesh.ServiceName{Namespace: "prod", DiscoveryName: "well"})
		w.expect(t, "beside an ill one", "well", "a.http b.http c.http")
		w.expect(t, "the ill one", "ill", "a.http b.http")
	})
}

func TestAnEmptyAnswerIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 5)
		w := start(t, m)
		after(time.Minute)
		full := s.instances
		m.do(s.clear)
		after(30 * time.Second)
		w.expect(t, "during a blip", "backend", five)
		if st := w.cm.Status()[0].Services[0]; st.Held != 5 {
			t.Errorf("held: %+v", st)
		}
		m.do(func() { s.instances = full; s.revision++ })
		after(15 * time.Second)
		w.expect(t, "after the blip", "backend", five)
		m.do(s.clear)
		after(60 * time.Second)
		w.expect(t, "scaled to zero for good", "backend", "")
		if s := w.store.Snapshot().Services; len(s) != 1 {
			t.Error("the service itself must stay")
		}
	})
}

func TestADropOfMoreThanHalfIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 5)
		w := start(t, m, func(c *Config) { c.Pace.Hinted = time.Second })
		after(20 * time.Minute)
		drop := func(ids ...string) func() {
			return func() {
				for _, id := range ids {
					delete(s.instances, id)
				}
				s.revision++
			}
		}
		m.do(drop("a.http", "b.http", "c.http"))
		m.do(func() { s.add(5) })
		after(1500 * time.Millisecond)
		w.expect(t, "at once", "backend", five+" f.http")
		after(10 * time.Second)
		w.expect(t, "confirmed", "backend", "d.http e.http f.http")
		m.do(drop("d.http"))
		after(1500 * time.Millisecond)
		w.expect(t, "one of three", "backend", "e.http f.http")
	})
}

func TestAnAnnouncedRemovalIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 2)
		w := start(t, m)
		after(time.Minute)
		name := mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}
		w.cm.Leaving(name, "a.http")
		if got := w.endpoints("backend"); !slices.Equal(got, []string{"b.http"}) {
			t.Errorf("when Leaving returns there is still %v", got)
		}
		after(time.Minute)
		w.expect(t, "while the registry still has it", "backend", "b.http")
		m.do(func() { s.remove("a.http") })
		after(30 * time.Second)
		m.do(func() { s.add(0) })
		w.cm.Hint(name)
		w.expect(t, "registered again", "backend", "a.http b.http")

		w.cm.Leaving(name, "a.http")
		m.do(func() {
			i := s.instances["a.http"]
			i.attrs[record.AttrSince] = "1760000000000"
			s.revision++
		})
		w.cm.Hint(name)
		w.expect(t, "registered again, never seen gone", "backend", "a.http b.http")
	})
}

// What takes the place of the last instance may be registered, and its end
// announced, before the registry has told us of the one: callers must never be
// without any.
func TestTheLastInstanceLeavesWhenItsSuccessorIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 1)
		w := start(t, m)
		after(time.Minute)
		name := mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}
		m.do(func() { s.add(1) })
		w.cm.Leaving(name, "a.http")
		if got := w.endpoints("backend"); !slices.Equal(got, []string{"a.http"}) {
			t.Errorf("before the registry has answered: %v", got)
		}
		synctest.Wait()
		w.expect(t, "it has", "backend", "b.http")

		// One that is not replaced stays until the registry has let go of it,
		w.cm.Leaving(name, "b.http")
		after(4 * time.Second)
		w.expect(t, "the registry still has it", "backend", "b.http")
		m.do(func() { s.remove("a.http"); s.remove("b.http") })
		w.cm.Hint(name)
		w.expect(t, "the registry has none", "backend", "")

		// and not for long where the registry does not.
		m.do(func() { s.add(2) })
		w.cm.Hint(name)
		w.expect(t, "a new one", "backend", "c.http")
		w.cm.Leaving(name, "c.http")
		after(5 * time.Second)
		w.expect(t, "after five seconds", "backend", "")
	})
}

// The health of an instance that leaves may change on its way out: that is no
// new registration.
func TestALeaveOutlastsAChangeOfHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 2)
		w := start(t, m)
		after(time.Minute)
		m.do(func() {
			i := s.instances["a.http"]
			i.health = "UNHEALTHY"
			s.instances["a.http"] = i
		})
		w.cm.Leaving(mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}, "a.http")
		w.expect(t, "on its way out", "backend", "b.http")
		after(30 * time.Second)
		w.expect(t, "while the registry still has it", "backend", "b.http")
		m.do(func() { s.remove("a.http") })
		after(31 * time.Second)
		w.expect(t, "gone", "backend", "b.http")
		if held := w.cm.Status()[0].Services[0].Held; held != 0 {
			t.Errorf("%d are held", held)
		}
	})
}

func TestALowerRevisionIsDoubted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 5)
		w := start(t, m)
		after(time.Minute)
		name := mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}
		full, rev := s.instances, s.revision
		m.do(func() { // a lagging replica answers
			s.instances = map[string]memoryInstance{"a.http": full["a.http"]}
			s.revision = rev - 4
		})
		w.cm.Hint(name)
		after(2 * time.Second)
		w.expect(t, "lagging", "backend", five)
		m.do(func() { s.instances, s.revision = full, rev })
		after(5 * time.Second)
		w.expect(t, "caught up", "backend", five)
		m.do(func() { delete(s.instances, "a.http"); s.revision = 1 })
		w.cm.Hint(name)
		after(time.Second + time.Second/2)
		w.expect(t, "reset, not yet believed", "backend", five)
		after(3 * time.Second)
		w.expect(t, "reset, believed", "backend", "b.http c.http d.http e.http")
	})
}

func TestALaggingAnswerDoesNotEndALeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 2)
		w := start(t, m)
		after(time.Minute)
		name := mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}
		full, rev := s.instances, s.revision
		w.cm.Leaving(name, "a.http")
		m.do(func() { s.instances, s.revision = map[string]memoryInstance{"b.http": full["b.http"]}, rev-1 })
		w.cm.Hint(name)
		synctest.Wait()
		m.do(func() { s.instances, s.revision = full, rev })
		w.cm.Hint(name)
		after(5 * time.Second)
		w.expect(t, "still registered, by the newest answer", "backend", "b.http")
	})
}

func TestAForeignServiceKeepsItsNameAndVIP(t *testing.T) {
	dir := t.TempDir()
	var was mesh.Alias
	old := &memoryService{id: "srv-l", revision: 1, instances: map[string]memoryInstance{
		"x": {attrs: map[string]string{record.AttrIPv4: "10.1.0.1", record.AttrPort: "5432"}}}}
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.services["legacy"] = old
		w := start(t, m, func(c *Config) { c.StateDir = dir })
		after(2 * time.Second)
		was = w.store.Snapshot().Services[0].Aliases[0]
		m.do(old.clear)
		after(2 * time.Minute)
		w.expect(t, "scaled to zero", "legacy", "")
		if got := w.store.Snapshot().Services[0].Aliases; len(got) != 1 || got[0] != was {
			t.Errorf("the alias is now %v", got)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a restart, and another name wants that VIP
		m := newMemory()
		m.services["legacy"] = old
		old.instances["x"] = memoryInstance{attrs: map[string]string{record.AttrIPv4: "10.1.0.1", record.AttrPort: "5432"}}
		w := start(t, m, func(c *Config) { c.StateDir = dir })
		after(2 * time.Second)
		if got := w.store.Snapshot().Services[0].Aliases; len(got) != 1 || got[0] != was {
			t.Errorf("after a restart the alias is %v, was %v", got, was)
		}
	})
}

// script is a watch that says what a test sends.
type script struct {
	events chan watch.Event
	down   atomic.Bool
}

func (s *script) Standing() bool { return !s.down.Load() }

func (s *script) Run(ctx context.Context, f func(watch.Event)) error {
	for {
		select {
		case e := <-s.events:
			f(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestAWatchIsFollowedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 1)
		wt := &script{events: make(chan watch.Event)}
		say := wt.events
		w := start(t, m, func(c *Config) { c.Watch = wt })
		after(time.Second)
		say <- watch.Event{Kind: watch.Resync}
		synctest.Wait()
		if !w.cm.Status()[0].Watched {
			t.Error("status does not show the watch")
		}
		began := time.Now()
		m.do(func() { s.add(1) })
		say <- watch.Event{Kind: watch.Instances, Namespace: "prod", Service: "backend"}
		w.expect(t, "instances", "backend", "a.http b.http")

		m.do(func() {
			c, _ := record.Plan(s.attrs, plain(mesh.HTTP, "api"), nil)
			s.attrs = c.Apply(s.attrs)
		})
		say <- watch.Event{Kind: watch.Attributes, Namespace: "prod", Service: "backend"}
		synctest.Wait()
		if got := w.store.Snapshot().Services[0].Aliases[0].DNSName; got != "api" {
			t.Errorf("settings: the alias is %s", got)
		}

		m.own(t, "later", plain(mesh.HTTP, "later"), 1)
		say <- watch.Event{Kind: watch.Services, Namespace: "prod", Service: "later"}
		w.expect(t, "a service made later", "later", "a.http")

		m.do(func() { s.add(2) })
		say <- watch.Event{Kind: watch.Instances, Namespace: "elsewhere", Service: "backend"}
		w.expect(t, "another namespace", "backend", "a.http b.http")
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %s", took)
		}
		after(30 * time.Second)
		w.expect(t, "polling behind a watch that missed something", "backend", "a.http b.http c.http")
		wt.down.Store(true)
		m.do(func() { s.add(3) })
		after(30 * time.Second)
		w.expect(t, "without a watch", "backend", "a.http b.http c.http d.http")
	})
}

func TestADeletedServiceGoesAfterDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.own(t, "backend", plain(mesh.HTTP, "backend"), 2)
		w := start(t, m)
		after(time.Minute)
		m.do(func() { delete(m.services, "backend") })
		w.cm.Hint(mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"})
		after(25 * time.Second)
		w.expect(t, "25 s later", "backend", "a.http b.http")
		after(40 * time.Second)
		if got := w.store.Snapshot().Services; len(got) != 0 {
			t.Errorf("still there: %v", got)
		}
	})
}

func TestUnreadableSettingsAreNeverPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		settings := plain(mesh.HTTP, "backend")
		settings.TLS = &mesh.ServiceTLS{Issuer: "default"}
		m.fail = func(op, service string) error {
			if op == "GetServiceAttributes" && service == "backend" {
				return errDown
			}
			return nil
		}
		m.own(t, "backend", settings, 2)
		m.own(t, "other", plain(mesh.HTTP, "other"), 1)
		w := start(t, m)
		after(time.Minute)
		if w.store.Snapshot().Synced["prod"] {
			t.Fatal("synced although a service was never read")
		}
		if st := w.cm.Status()[0]; len(st.Waiting) != 1 || !strings.Contains(st.Waiting[0], "backend.prod") {
			t.Errorf("waiting for %v", st.Waiting)
		}
		m.do(func() { m.fail = nil })
		after(10 * time.Second)
		b := w.store.Snapshot().Service(mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"})
		if b == nil || b.TLS == nil || b.Foreign {
			t.Fatalf("backend: %+v", b)
		}
		m.do(func() { m.services["backend"].attrs = map[string]string{record.AttrCurrent: "gone"} })
		after(2 * time.Minute)
		if w.store.Snapshot().Service(b.Name) != b {
			t.Error("damaged settings changed the service")
		}
		if st := w.cm.Status()[0].Services[0]; !strings.Contains(st.Settings, "last good") {
			t.Errorf("status does not say so: %+v", st)
		}
	})
}

func TestTLSComesWithItsSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 1)
		w := start(t, m)
		after(time.Minute)
		name := mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}
		with := plain(mesh.HTTP, "backend")
		with.TLS = &mesh.ServiceTLS{Issuer: "default"}
		m.do(func() {
			m.fail = func(op, _ string) error {
				if op == "GetServiceAttributes" {
					return errDown
				}
				return nil
			}
			c, _ := record.Plan(s.attrs, with, nil)
			s.attrs = c.Apply(s.attrs)
			s.instances[s.add(1)].attrs[record.AttrTLS] = "true"
		})
		w.cm.Hint(name)
		w.expect(t, "settings not readable", "backend", "a.http")
		m.do(func() { m.fail = nil })
		after(3 * time.Second)
		w.expect(t, "settings read", "backend", "a.http b.http")
		got := w.store.Snapshot().Service(name)
		if got.TLS == nil || got.Endpoints[0].TLS || !got.Endpoints[1].TLS {
			t.Errorf("mixed service: %+v", got)
		}
		m.do(func() { // and off again, while b still speaks TLS
			c, _ := record.Plan(s.attrs, plain(mesh.HTTP, "backend"), nil)
			s.attrs = c.Apply(s.attrs)
			s.add(2)
		})
		w.cm.Hint(name)
		after(35 * time.Second)
		w.expect(t, "TLS off", "backend", "a.http b.http c.http")
		if got := w.store.Snapshot().Service(name); got.TLS == nil || got.TLS.Issuer != "default" {
			t.Errorf("b can't be called: %+v", got.TLS)
		}
	})
}

// Callers must show their certificates for as long as a task lives that refuses
// those who show none.
func TestCallersAreAskedUntilTheLastTaskThatAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		strict := plain(mesh.HTTP, "backend")
		strict.TLS = &mesh.ServiceTLS{Issuer: "default"}
		strict.Policy = &policy.Policy{MutualTLS: &policy.MutualTLS{Mode: policy.Required}}
		s := m.own(t, "backend", strict, 1)
		w := start(t, m)
		after(time.Minute)
		name := mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}
		mode := func() string {
			if p := w.store.Snapshot().Service(name).Policy; p != nil && p.MutualTLS != nil {
				return p.MutualTLS.Mode
			}
			return ""
		}
		if got := mode(); got != policy.Required {
			t.Errorf("at first: %q", got)
		}
		m.do(func() {
			lax := plain(mesh.HTTP, "backend")
			lax.TLS = strict.TLS
			c, _ := record.Plan(s.attrs, lax, nil)
			s.attrs = c.Apply(s.attrs)
			s.add(1)
		})
		w.cm.HintSettings(name)
		after(2 * time.Second)
		w.expect(t, "no longer asked for", "backend", "a.http b.http")
		if got := mode(); got != policy.Permissive {
			t.Errorf("while a requires one: %q", got)
		}
		w.cm.Leaving(name, "a.http")
		w.expect(t, "a has left", "backend", "b.http")
		if got := mode(); got != "" {
			t.Errorf("when a has left: %q", got)
		}
	})
}

func TestMalformedInstancesAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 2)
		s.instances["x"] = memoryInstance{attrs: map[string]string{record.AttrPort: "80"}}
		s.instances["y"] = memoryInstance{attrs: map[string]string{record.AttrIPv4: "db.example", record.AttrPort: "80"}}
		s.instances["z"] = memoryInstance{attrs: map[string]string{record.AttrIPv4: "10.0.0.1", record.AttrPort: "15010"}} // as a.http
		w := start(t, m)
		w.expect(t, "at the start", "backend", "a.http b.http")
		if got := w.cm.Status()[0].Services[0].Skipped; got["no_address"] != 1 || got["host_name"] != 1 {
			t.Errorf("skipped: %v", got)
		}
	})
}

func TestRestartWithTheRegistryDown(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.own(t, "backend", plain(mesh.HTTP, "backend"), 5)
		w := start(t, m, func(c *Config) { c.StateDir = dir })
		after(5 * time.Second)
		w.expect(t, "before", "backend", five)
	})
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.fail = func(string, string) error { return errDown }
		w := start(t, m, func(c *Config) { c.StateDir = dir })
		after(time.Second)
		if w.store.Snapshot().Synced["prod"] {
			t.Error("the old world was shown before the registry had its chance")
		}
		after(2 * time.Second)
		w.expect(t, "stale", "backend", five)
		st := w.cm.Status()[0]
		if !st.Stale || st.Services[0].Source != LastKnownGood || st.Services[0].Age >= 0 {
			t.Errorf("status: %+v", st)
		}
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 5)
		m.do(func() { m.fail = nil; s.add(5) })
		after(12 * time.Second)
		w.expect(t, "live again", "backend", five+" f.http")
	})
	file := filepath.Join(dir, "prod.json")
	for _, damage := range []string{"", "{", `{"version":99}`} {
		if err := os.WriteFile(file, []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			m := newMemory()
			m.fail = func(string, string) error { return errDown }
			w := start(t, m, func(c *Config) { c.StateDir = dir })
			after(time.Minute)
			if w.store.Snapshot().Synced["prod"] {
				t.Errorf("%q was served", damage)
			}
		})
		if _, err := os.Stat(file + ".bad"); err != nil {
			t.Errorf("%q was not put aside: %v", damage, err)
		}
	}
}

func TestAMissingNamespace(t *testing.T) {
	for _, create := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory()
			m.missing = true
			w := start(t, m, func(c *Config) { c.CreateNamespace = create })
			after(10 * time.Second)
			if got := w.store.Snapshot().Synced["prod"]; got != create {
				t.Errorf("create %v: synced %v", create, got)
			}
			m.do(func() { m.missing = false })
			m.own(t, "backend", plain(mesh.HTTP, "backend"), 1)
			after(2 * time.Second)
			w.expect(t, "once it exists", "backend", "a.http")
		})
	}
}

func TestAliasConflictsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.own(t, "a", plain(mesh.HTTP, "api"), 1)
		m.own(t, "b", plain(mesh.HTTP, "api"), 1)
		w := start(t, m)
		after(time.Second)
		if c := w.cm.Status()[0].Conflicts; len(c) != 1 || c[0].Winner.DiscoveryName != "a" {
			t.Errorf("conflicts: %v", c)
		}
	})
}

// However errors, refusals and empty pages of time mix, an endpoint that the
// registry never gave up is never lost.
func TestNoInterleavingOfErrorsRemovesAnEndpoint(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			m := newMemory()
			names := []string{"one", "two", "three"}
			for i, name := range names {
				m.own(t, name, plain(mesh.HTTP, name), 2+i)
			}
			dir := t.TempDir()
			w := start(t, m, func(c *Config) { c.StateDir = dir })
			after(time.Second)
			for i, name := range names {
				w.seen.mu.Lock()
				w.seen.least[name] = 2 + i
				w.seen.mu.Unlock()
			}
			for range 40 {
				bad := names[r.IntN(3)]
				op := []string{"", "ListServices", "GetServiceAttributes", "DiscoverInstances", "DiscoverInstancesRevision"}[r.IntN(5)]
				err := []error{errDown, &types.ServiceNotFound{}, &types.NamespaceNotFound{}, &smithy.GenericAPIError{Code: "ThrottlingException"}}[r.IntN(4)]
				kind := r.IntN(4)
				m.do(func() {
					s := m.services[bad]
					full, rev := s.instances, s.revision
					switch kind {
					case 0:
						m.fail = func(o, n string) error {
							if op == "" || o == op && (n == "" || n == bad) {
								return err
							}
							return nil
						}
					case 1: // an empty blip
						s.instances, s.revision = map[string]memoryInstance{}, rev+1
						time.AfterFunc(time.Duration(r.IntN(20000))*time.Millisecond, func() { m.do(func() { s.instances, s.revision = full, rev+2 }) })
					case 2: // a lagging replica
						s.instances, s.revision = map[string]memoryInstance{}, rev-1
						time.AfterFunc(time.Duration(r.IntN(2000))*time.Millisecond, func() { m.do(func() { s.instances, s.revision = full, rev }) })
					default:
						m.fail = nil
					}
				})
				if r.IntN(2) == 0 {
					w.cm.Hint(mesh.ServiceName{Namespace: "prod", DiscoveryName: names[r.IntN(3)]})
				}
				after(25*time.Second + time.Duration(r.IntN(60000))*time.Millisecond)
			}
			w.seen.mu.Lock()
			defer w.seen.mu.Unlock()
			for i, name := range names {
				if got := w.seen.least[name]; got != 2+i {
					t.Errorf("seed %d: %s once had %d endpoints, of %d", seed, name, got, 2+i)
				}
			}
			if n := len(slices.Collect(func(yield func(string) bool) {
				for _, s := range w.cm.Status()[0].Services {
					if !yield(fmt.Sprint(s.Name)) {
						return
					}
				}
			})); n != 3 {
				t.Errorf("seed %d: %d services", seed, n)
			}
		})
	}
}

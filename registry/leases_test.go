package registry

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/prometheus/client_golang/prometheus"

	"patchbay/registry/metrics"
)

const tenSeconds = "PATCHBAY_LEASE_SECONDS=10"

// sleep lets time pass, to just after the moment.
func (l *lab) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// sustain renews leases of a service every five seconds, for a time.
func (l *lab) sustain(d time.Duration, svc string, ids ...string) {
	l.t.Helper()
	for ; d > 0; d -= 5 * time.Second {
		for _, id := range ids {
			if err := l.set(svc, id, types.CustomHealthStatusHealthy); err != nil {
				l.t.Fatal(err)
			}
		}
		l.sleep(min(d, 5*time.Second))
	}
}

func TestALeaseEndsInTwoSteps(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		svc := l.service(l.namespace("demo"), "backend")
		l.register(svc, "a", tenSeconds)
		l.register(svc, "b", tenSeconds)
		l.register(svc, "c")
		_, revision := l.seen("demo", "backend")
		l.sustain(10*time.Second-time.Nanosecond, svc, "b")
		l.expect("just before a period", "a:HEALTHY b:HEALTHY c:HEALTHY")
		l.sustain(time.Second, svc, "b")
		l.expect("after a period", "a:UNHEALTHY b:HEALTHY c:HEALTHY")
		if _, r := l.seen("demo", "backend"); r != revision {
			t.Errorf("revision %d after %d: it was only health", r, revision)
		}
		l.sustain(10*time.Second, svc, "b")
		l.expect("after a second one", "b:HEALTHY c:HEALTHY")
		if _, r := l.seen("demo", "backend"); r != revision+1 {
			t.Errorf("revision %d after %d and a removal", r, revision)
		}
		failsWith(t, "renewed too late", l.set(svc, "a", types.CustomHealthStatusHealthy), "InstanceNotFound")
		l.sustain(2*time.Hour, svc, "b")
		l.expect("after two hours", "b:HEALTHY c:HEALTHY")
		l.register(svc, "a", tenSeconds)
		l.expect("registered again", "a:HEALTHY b:HEALTHY c:HEALTHY")
	})
}

// A renewal in between makes the instance what it was before, whichever status
// it carries, and by whichever call.
func TestARenewalRestores(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		ns := l.namespace("demo")
		svc, plain := l.service(ns, "backend"), l.service(ns, "plain", func(in *sd.CreateServiceInput) { in.HealthCheckCustomConfig = nil })
		l.register(svc, "a", tenSeconds)
		l.register(plain, "p", tenSeconds)
		if err := l.set(svc, "a", types.CustomHealthStatusUnhealthy); err != nil {
			t.Fatal(err)
		}
		l.sleep(11 * time.Second)
		l.expect("silent", "a:UNHEALTHY")
		if err := l.set(svc, "a", types.CustomHealthStatusHealthy); err != nil {
			t.Fatal(err)
		}
		l.expect("renewed as healthy", "a:HEALTHY")
		if got, _ := l.seen("demo", "plain"); got != "p:UNHEALTHY" {
			t.Errorf("silent, without a health check: %q", got)
		}
		failsWith(t, "renewed, without a health check", l.set(plain, "p", types.CustomHealthStatusHealthy), "CustomHealthNotFound")
		if got, _ := l.seen("demo", "plain"); got != "p:UNKNOWN" {
			t.Errorf("renewed, without a health check: %q", got)
		}
		l.sleep(11 * time.Second)
		l.expect("silent again", "a:UNHEALTHY")
		l.register(svc, "a", tenSeconds)
		l.expect("registered again", "a:HEALTHY")
		l.register(svc, "a") // without a lease: for ever
		l.deregister(plain, "p")
		l.sleep(time.Hour)
		l.expect("after an hour", "a:HEALTHY")
	})
}

// A renewal that changes nothing is not written.
func TestRenewalsCostNoWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &counting{}
		l := &lab{t: t, open: st.open}
		l.start()
		defer func() { l.stop() }()
		svc := l.service(l.namespace("demo"), "backend")
		l.register(svc, "a", tenSeconds)
		before := st.writes.Load()
		l.sustain(time.Hour, svc, "a")
		if n := st.writes.Load() - before; n != 0 {
			t.Errorf("%d writes for an hour of renewals", n)
		}
	})
}

func TestARestartStartsPeriodsAfresh(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		svc := l.service(l.namespace("demo"), "backend")
		l.register(svc, "alive", tenSeconds)
		l.register(svc, "silent", tenSeconds)
		l.register(svc, "late", tenSeconds)
		l.sustain(9*time.Second, svc, "alive", "late")
		l.sustain(2*time.Second, svc, "alive")
		l.expect("before", "alive:HEALTHY late:HEALTHY silent:UNHEALTHY")
		l.stop()
		l.sleep(time.Hour) // nobody could renew anything
		l.start()
		l.done()
		l.expect("at once after it", "alive:HEALTHY late:HEALTHY silent:UNHEALTHY")
		l.sustain(9*time.Second, svc, "alive")
		l.expect("within a period", "alive:HEALTHY late:HEALTHY silent:UNHEALTHY")
		l.sustain(2*time.Second, svc, "alive")
		l.expect("after a period", "alive:HEALTHY late:UNHEALTHY")
		l.sustain(10*time.Second, svc, "alive")
		l.expect("after two", "alive:HEALTHY")
	})
}

// value is how often leases of a scope were held.
func value(t *testing.T, reg *prometheus.Registry, scope string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			if f.GetName() == "patchbay_registry_lease_holds_total" && m.GetLabel()[0].GetValue() == scope {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestMassExpiryRemovesNothing(t *testing.T) {
	reg := prometheus.NewRegistry()
	over(t, Options{Metrics: metrics.New(reg)}, func(t *testing.T, l *lab) {
		ns := l.namespace("demo")
		svc, other := l.service(ns, "backend"), l.service(ns, "other")
		for i := range 5 {
			l.register(svc, fmt.Sprint(i), tenSeconds)
		}
		l.register(other, "o", tenSeconds)
		held := value(t, reg, "service")
		for range 30 { // minutes in which only two speak
			l.sustain(5*time.Second, svc, "4")
			l.sustain(0, other)
			if err := l.set(other, "o", types.CustomHealthStatusHealthy); err != nil {
				t.Fatal(err)
			}
		}
		l.expect("four of five silent", "0:UNHEALTHY 1:UNHEALTHY 2:UNHEALTHY 3:UNHEALTHY 4:HEALTHY")
		if n := value(t, reg, "service") - held; n != 1 {
			t.Errorf("the counter went up by %v", n)
		}
		if !strings.Contains(l.log.String(), "over half of a service's leases have run out together") || strings.Count(l.log.String(), "nothing of it is removed") != 1 {
			t.Errorf("the log says\n%s", l.log)
		}
		held = value(t, reg, "registry")
		l.sleep(time.Hour) // nobody at all
		l.expect("all silent", "0:UNHEALTHY 1:UNHEALTHY 2:UNHEALTHY 3:UNHEALTHY 4:UNHEALTHY")
		if got, _ := l.seen("demo", "other"); got != "o:UNHEALTHY" {
			t.Errorf("other: %q", got)
		}
		if n := value(t, reg, "registry") - held; n != 1 {
			t.Errorf("the counter went up by %v", n)
		}
		l.restart() // and a restart in the middle of it
		l.sleep(time.Hour)
		l.expect("all silent, after a restart", "0:UNHEALTHY 1:UNHEALTHY 2:UNHEALTHY 3:UNHEALTHY 4:UNHEALTHY")
		l.sustain(9*time.Second, svc, "0", "1", "2")
		l.expect("renewals are back", "0:HEALTHY 1:HEALTHY 2:HEALTHY 3:UNHEALTHY 4:UNHEALTHY")
		l.sustain(6*time.Second, svc, "0", "1", "2")
		l.expect("a period after the last that came back", "0:HEALTHY 1:HEALTHY 2:HEALTHY")
	})
}

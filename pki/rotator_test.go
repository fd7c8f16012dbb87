package pki

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/secret"
)

func TestEveryServiceWithTLSGetsALeaf(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		plain := svc("plain")
		plain.TLS = nil
		w.store.SetServices("prod", []*mesh.Service{svc("a", "a.internal", "a.internal"), svc("b"), plain})
		w.start()
		w.pass(time.Second)
		snap := w.store.Snapshot()
		if len(snap.Leaves) != 2 {
			t.Fatalf("leaves %v", snap.Leaves)
		}
		trusted(t, snap)
		chain := must(issue.ParseCertificates(w.leaf("a").ChainPEM))
		if diff := cmp.Diff([]string{"a.internal", "a.prod"}, chain[0].DNSNames); diff != "" {
			t.Error(diff)
		}
		if got := chain[0].URIs[0].String(); got != "spiffe://mesh.test/service/prod/a" {
			t.Error(got)
		}
		w.store.SetServices("prod", append(slices.Clone(snap.Services), svc("later")))
		w.pass(time.Second)
		w.leaf("later")
		if n := len(w.ca.issues()); n != 3 {
			t.Errorf("%d issues for 3 services", n)
		}
	})
}

func TestRenewalPointIsSpread(t *testing.T) {
	const n = 200
	life := 100 * time.Hour
	inWorld(t, life, func(t *testing.T, w *world) {
		w.o.Rate = 1000
		w.store.SetServices("prod", services(n))
		w.start()
		w.pass(76 * time.Hour)
		first := map[mesh.ServiceName]time.Time{}
		var points []float64
		for _, i := range w.ca.issues() {
			if at, renewed := first[i.service]; renewed {
				points = append(points, float64(i.at.Sub(at))/float64(life))
			} else {
				first[i.service] = i.at
			}
		}
		if len(points) != n {
			t.Fatalf("%d renewals of %d", len(points), n)
		}
		lowest, highest, sum := slices.Min(points), slices.Max(points), 0.0
		for _, p := range points {
			sum += p
		}
		// Uniform: the ends are within 0.0075 of the range's with a probability
		// of 1 - 2*0.95^200 (failing once in 14,000 runs), the mean within 5 σ.
		if lowest < 0.6 || lowest > 0.6075 || highest > 0.75001 || highest < 0.7425 || sum/n < 0.66 || sum/n > 0.69 {
			t.Errorf("renewed at %.4f to %.4f of life, mean %.4f", lowest, highest, sum/n)
		}
		trusted(t, w.store.Snapshot())
	})
}

func TestFailureKeepsTheLeaf(t *testing.T) {
	life := 10 * time.Hour
	inWorld(t, life, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svc("a")})
		w.start()
		w.pass(time.Second)
		old := w.leaf("a")
		w.ca.set(func(a *authority) { a.away = errAway })
		w.pass(8 * time.Hour) // the renewal point has passed
		if w.leaf("a") != old {
			t.Error("the leaf changed while the CA was away")
		}
		st := w.status("a")
		if st.Failures < 10 || !strings.Contains(st.LastError, errAway.Error()) || st.Alarm {
			t.Errorf("status %+v", st)
		}
		if n := strings.Count(w.log.String(), "certificate not renewed"); n != 1 {
			t.Errorf("%d lines for one outage", n)
		}
		if left, ok := w.rotator.Survivable(time.Now()); !ok || left != time.Until(old.NotAfter) {
			t.Errorf("survivable %s, %v", left, ok)
		}
		w.pass(time.Hour + time.Second) // below a tenth
		if st := w.status("a"); !st.Alarm {
			t.Errorf("no alarm: %+v", st)
		}
		if n := strings.Count(w.log.String(), "about to expire"); n != 1 {
			t.Errorf("%d alarms", n)
		}
		w.pass(2 * time.Hour) // past expiry: still served, said loudly
		if w.leaf("a") != old {
			t.Error("the expired leaf was taken away")
		}
		if left, ok := w.rotator.Survivable(time.Now()); !ok || left != 0 {
			t.Errorf("survivable %s, %v", left, ok)
		}
		w.ca.set(func(a *authority) { a.away = nil })
		w.pass(time.Minute)
		if w.leaf("a") == old {
			t.Error("not renewed within a minute of the CA's return")
		}
		if st := w.status("a"); st.Failures != 0 || st.LastError != "" || st.Alarm {
			t.Errorf("status %+v", st)
		}
	})
}

func TestAlarmRenewsAtOnce(t *testing.T) {
	inWorld(t, 10*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svc("a")})
		w.start()
		w.pass(time.Second)
		old := w.leaf("a")
		w.stop()
		w.pass(9*time.Hour + 10*time.Minute) // as if the machine had been asleep
		w.restart()
		w.pass(time.Second)
		if !strings.Contains(w.log.String(), "about to expire") {
			t.Error("no alarm")
		}
		if w.leaf("a").Serial == old.Serial {
			t.Error("not renewed at once")
		}
	})
}

func TestRestartWithoutTheCA(t *testing.T) {
	for _, kind := range []string{"memory", "file"} {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "secrets")
			inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
				if kind == "file" {
					w.secrets = secret.NewFile(secret.FileOptions{Dir: dir})
				}
				w.store.SetServices("prod", services(20))
				w.start()
				w.pass(10 * time.Second)
				before := w.store.Snapshot()
				w.ca.set(func(a *authority) { a.away = errAway })
				if kind == "file" {
					w.secrets = secret.NewFile(secret.FileOptions{Dir: dir})
				}
				w.restart()
				w.pass(time.Second)
				after := w.store.Snapshot()
				if len(after.Leaves) != 20 || !after.Bundles["default"].Equal(before.Bundles["default"]) {
					t.Fatalf("%d leaves, bundle %v", len(after.Leaves), after.Bundles["default"])
				}
				for n, l := range after.Leaves {
					if !l.Equal(before.Leaves[n]) || !l.IssuedAt.Equal(before.Leaves[n].IssuedAt) || l.Issuer != "default" || !l.NotAfter.Equal(before.Leaves[n].NotAfter) {
						t.Errorf("%v became %v", before.Leaves[n], l)
					}
				}
				trusted(t, after)
				if n := len(w.ca.issues()); n != 20 {
					t.Errorf("%d issues; a restart needs none", n)
				}
				if st := w.rotator.Status().Issuers[0]; st.LastError == "" || st.Roots != 1 {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}

func TestNewAliasNewLeaf(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svc("a", "x"), svc("b")})
		w.start()
		w.pass(time.Second)
		a, b := w.leaf("a"), w.leaf("b")
		w.store.SetServices("prod", []*mesh.Service{svc("a", "x", "y"), svc("b")})
		w.pass(time.Second)
		if got := must(issue.ParseCertificates(w.leaf("a").ChainPEM))[0].DNSNames; !slices.Contains(got, "y") {
			t.Errorf("names %v", got)
		}
		if w.leaf("a") == a || w.leaf("b") != b {
			t.Error("the wrong leaf changed")
		}
		moved := svc("a", "x", "y")
		moved.Aliases[0].Port, moved.Aliases[1].Port = 81, 82
		a = w.leaf("a")
		w.store.SetServices("prod", []*mesh.Service{moved, svc("b")})
		w.pass(time.Second)
		if w.leaf("a") != a {
			t.Error("another port is no reason for another leaf")
		}
		// A restart must tell from the stored certificate that it is outdated.
		w.stop()
		w.store.SetServices("prod", []*mesh.Service{svc("a", "z"), svc("b")})
		w.restart()
		w.pass(time.Second)
		if got := must(issue.ParseCertificates(w.leaf("a").ChainPEM))[0].DNSNames; !slices.Contains(got, "z") {
			t.Errorf("names %v", got)
		}
		if w.leaf("b").Serial != b.Serial {
			t.Error("b was re-issued")
		}
	})
}

func TestUnknownIssuerBlocksNobody(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		lost := svc("lost")
		lost.TLS.Issuer = "arn:none"
		w.issuers["other"] = newAuthority(t, time.Hour)
		w.store.SetServices("prod", []*mesh.Service{lost, svc("ok")})
		w.start()
		w.pass(time.Second)
		w.leaf("ok")
		want := `issuer "arn:none" is not configured; configured: default, other`
		if got := w.status("lost").LastError; got != want {
			t.Errorf("got %q", got)
		}
		if _, err := w.rotator.Rotate(t.Context(), name("lost")); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("Rotate: %v", err)
		}
		w.store.SetServices("prod", []*mesh.Service{svc("lost"), svc("ok")})
		w.pass(time.Second)
		w.leaf("lost")
		if got := w.status("lost").LastError; got != "" {
			t.Errorf("still %q", got)
		}
		// Its issuer goes from the file: what it has stays, also over a restart.
		old := w.leaf("lost")
		w.store.SetServices("prod", []*mesh.Service{lost, svc("ok")})
		w.pass(48 * time.Hour)
		w.restart()
		w.pass(time.Second)
		if w.leaf("lost").Serial != old.Serial || w.status("lost").LastError != want {
			t.Errorf("leaf %v, status %+v", w.leaf("lost"), w.status("lost"))
		}
	})
}

func TestOneFlightRateLimitAndOrder(t *testing.T) {
	inWorld(t, 10*time.Hour, func(t *testing.T, w *world) {
		w.o.Rate, w.o.Parallel = 4, 2 // burst 1
		var all []*mesh.Service
		for i := range 8 { // issued one after the other, so that s7 expires last
			all = append(all, svc(fmt.Sprint("s", 7-i)))
			w.store.SetServices("prod", all)
			if i == 0 {
				w.start()
			}
			w.pass(2 * time.Minute)
		}
		w.stop()
		w.pass(9*time.Hour + 30*time.Minute) // all are due
		w.ca.set(func(a *authority) { a.order = nil })
		w.restart()
		w.pass(time.Minute)
		var done []string
		issues := w.ca.issues()
		for i, is := range issues {
			if i > 0 && is.at.Sub(issues[i-1].at) < 245*time.Millisecond {
				t.Errorf("issue %d came %s after the one before; at most 4 a second", i, is.at.Sub(issues[i-1].at))
			}
			done = append(done, is.service.DiscoveryName)
		}
		// The first may have been the only one loaded by then.
		if len(done) != 8 || !slices.IsSortedFunc(done[1:], func(a, b string) int { return strings.Compare(b, a) }) || w.ca.most != 1 {
			t.Errorf("order %v, %d at once of one service; want the earliest expiry first", done, w.ca.most)
		}
	})
}

func TestStuckIssuerHoldsUpNoOther(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		stuck, refusing := newAuthority(t, time.Hour), newAuthority(t, time.Hour)
		stuck.took, refusing.away, refusing.took = 100*time.Hour, errAway, 0
		w.issuers["stuck"], w.issuers["refusing"] = stuck, refusing
		all := services(300)
		for i := range 200 {
			all[i].TLS.Issuer = []string{"stuck", "refusing"}[i%2]
		}
		w.store.SetServices("prod", all)
		w.start()
		w.pass(6 * time.Second) // 100 at 20 a second
		if n := len(w.store.Snapshot().Leaves); n != 100 {
			t.Errorf("%d leaves of 100", n)
		}
		w.pass(time.Minute)
		told := 0
		for _, s := range w.rotator.Status().Services {
			if s.Issuer == "stuck" && strings.Contains(s.LastError, "deadline") {
				told++
			}
		}
		if told == 0 {
			t.Error("nobody learns that an issuer is stuck")
		}
	})
}

package tap

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/agentapi"
	"patchbay/xds/bootstrap"
)

// runtime keeps what Envoy's would.
type runtime struct {
	mu   sync.Mutex
	has  map[string]string
	said int
	fail error
}

func (r *runtime) SetRuntime(_ context.Context, values map[string]string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said++
	if r.fail != nil {
		return r.fail
	}
	maps.Copy(r.has, values)
	maps.DeleteFunc(r.has, func(_, v string) bool { return v == "" })
	return nil
}

func (r *runtime) value(key string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.has[key]
}

func (r *runtime) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said
}

func newTap() (*Tap, *runtime) {
	r := &runtime{has: map[string]string{}}
	return New(Config{Runtime: r, Service: func(port string) string { return port + ".prod" }, Log: slog.New(slog.DiscardHandler)}), r
}

func entry(status uint32, path string) *datav3.HTTPAccessLogEntry {
	return &datav3.HTTPAccessLogEntry{
		CommonProperties: &datav3.AccessLogCommon{
			UpstreamCluster: "app-web", ResponseFlags: &datav3.ResponseFlags{NoHealthyUpstream: true},
			TlsProperties: &datav3.TLSProperties{TlsVersion: datav3.TLSProperties_TLSv1_3},
		},
		Request: &datav3.HTTPRequestProperties{RequestMethod: corev3.RequestMethod_GET, Path: path, RequestHeaders: map[string]string{
			"accept": "x", "authorization": "Bearer s3cret", "x-unheard-of": "s3cret",
		}},
		Response: &datav3.HTTPResponseProperties{ResponseCode: wrapperspb.UInt32(status), ResponseTrailers: map[string]string{bootstrap.TapGRPCStatus: "14"}},
	}
}

func (t *Tap) log(direction string, e *datav3.HTTPAccessLogEntry) {
	t.take(direction, func(w *agentapi.Tap) agentapi.Request { return t.request(direction, w, e) })
}

func wanted() *agentapi.Tap {
	return &agentapi.Tap{Lasts: durationpb.New(time.Minute), Sample: bootstrap.TapMillion, Most: 10}
}

// looker is one who looks.
type looker struct {
	mu    sync.Mutex
	seen  []agentapi.Request
	parts []agentapi.Tapped
	err   error
	done  chan struct{}
}

func look(ctx context.Context, t *Tap, w *agentapi.Tap) *looker {
	l := &looker{done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.err = t.Show(ctx, w, func(p agentapi.Tapped) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.parts, l.seen = append(l.parts, p), append(l.seen, p.Requests...)
		})
	}()
	synctest.Wait()
	return l
}

// TestALease: the log is on while somebody looks, for one at a time, and off at
// the end, whichever end it is.
func TestALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap, r := newTap()
		w := wanted()
		w.LeastStatus = 500
		first := look(t.Context(), tap, w)
		if r.value(bootstrap.TapFraction) != "1000000" || r.value(bootstrap.TapStatus) != "500" {
			t.Errorf("on: %v", r.has)
		}
		second := look(t.Context(), tap, wanted())
		if <-second.done; second.err == nil || !strings.Contains(second.err.Error(), "one at a time") || r.value(bootstrap.TapStatus) != "500" {
			t.Errorf("two at once: %v", second.err)
		}
		time.Sleep(time.Minute)
		if <-first.done; first.err != nil || len(r.has) > 0 {
			t.Errorf("over: %v, %v", first.err, r.has)
		}
		ctx, cancel := context.WithCancel(t.Context())
		third := look(ctx, tap, wanted())
		before := r.calls()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := r.calls() - before; n != 5 { // an Envoy that was restarted has forgotten it
			t.Errorf("said %d times in 5 s", n)
		}
		cancel()
		if <-third.done; third.err != nil || len(r.has) > 0 {
			t.Errorf("left: %v, %v", third.err, r.has)
		}
		r.fail = errors.New("no Envoy")
		if fourth := look(t.Context(), tap, wanted()); !errors.Is(fourth.err, r.fail) {
			t.Errorf("no Envoy: %v", fourth.err)
		}
	})
}

// TestAStrayLogIsSwitchedOff: where the end of a lease did not reach Envoy.
func TestAStrayLogIsSwitchedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap, r := newTap()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go tap.sweep(ctx)
		r.has[bootstrap.TapFraction] = "5"
		tap.log(bootstrap.TapEgress, entry(200, "/"))
		synctest.Wait()
		if len(r.has) > 0 {
			t.Errorf("still on: %v", r.has)
		}
		cancel()
		synctest.Wait()
	})
}

// TestTheRateHolds: what is more is left out and said, and the sample falls to
// what fits; it rises again when there is less.
func TestTheRateHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap, r := newTap()
		ctx, cancel := context.WithCancel(t.Context())
		l := look(ctx, tap, wanted())
		for range 100 {
			tap.log(bootstrap.TapEgress, entry(200, "/"))
		}
		time.Sleep(turn)
		synctest.Wait()
		last := l.parts[len(l.parts)-1]
		if len(l.seen) != 10 || last.LeftOut != 90 || last.Sample != bootstrap.TapMillion/10 || r.value(bootstrap.TapFraction) != "100000" {
			t.Errorf("%d seen, %+v, %v", len(l.seen), last, r.has)
		}
		time.Sleep(10 * turn)
		synctest.Wait()
		if got := r.value(bootstrap.TapFraction); got != "1000000" {
			t.Errorf("afterwards: %s", got)
		}
		cancel()
		<-l.done
	})
}

// TestASlowLookerHoldsNobody: Envoy's entries are never waited for.
func TestASlowLookerHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap, _ := newTap()
		w := wanted()
		w.Most = MaxRate
		ctx, cancel := context.WithCancel(t.Context())
		block := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			tap.Show(ctx, w, func(agentapi.Tapped) { <-block })
		}()
		synctest.Wait()
		for range 2 * waiting {
			tap.log(bootstrap.TapEgress, entry(200, "/"))
		}
		tap.mu.Lock()
		left := tap.lease.leftOut
		tap.mu.Unlock()
		if left != waiting {
			t.Errorf("%d left out", left)
		}
		close(block)
		cancel()
		<-done
	})
}

func TestWhatIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap, _ := newTap()
		w := wanted()
		w.Most, w.LeastStatus, w.MostStatus, w.Path, w.Direction, w.Headers = 100, 500, 503, "/a", bootstrap.TapIngress, true
		ctx, cancel := context.WithCancel(t.Context())
		l := look(ctx, tap, w)
		tap.log(bootstrap.TapIngress, entry(404, "/a"))
		tap.log(bootstrap.TapIngress, entry(504, "/a"))
		tap.log(bootstrap.TapIngress, entry(503, "/b"))
		tap.log(bootstrap.TapEgress, entry(503, "/a"))
		tap.log(bootstrap.TapIngress, entry(503, "/a/"+strings.Repeat("ä", longest)+"?token=s3cret"))
		synctest.Wait()
		if len(l.seen) != 1 {
			t.Fatalf("%+v", l.seen)
		}
		r := l.seen[0]
		if r.Service != "web.prod" || r.TLS != "TLSv1.3" || r.GRPCStatus != "Unavailable" || r.Method != http.MethodGet || strings.Join(r.Flags, ",") != "no healthy upstream" || len(r.Path) > longest+len("…") {
			t.Errorf("%+v", r)
		}
		if r.Headers["accept"] != "x" || r.Headers["authorization"] != redacted || r.Headers["x-unheard-of"] != redacted || strings.Contains(r.Path, "s3cret") {
			t.Errorf("%+v", r.Headers)
		}
		cancel()
		<-l.done
	})
}

// TestBounds: an agent does not believe that the control plane has checked.
func TestBounds(t *testing.T) {
	tap, r := newTap()
	for want, spoil := range map[string]func(*agentapi.Tap){
		"lasts":  func(w *agentapi.Tap) { w.Lasts = durationpb.New(MaxTime + 1) },
		"sample": func(w *agentapi.Tap) { w.Sample = 0 },
		"most":   func(w *agentapi.Tap) { w.Most = MaxRate + 1 },
	} {
		w := wanted()
		spoil(w)
		if err := tap.Show(t.Context(), w, nil); err == nil || !strings.HasPrefix(err.Error(), want) || r.said > 0 {
			t.Errorf("%s: %v", want, err)
		}
	}
}

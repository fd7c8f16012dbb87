package watch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// reader runs a Client and hands over its events one by one.
type reader struct {
	client *Client
	events chan Event
	end    context.CancelCauseFunc
	result chan error
}

var errEnd = errors.New("end of the test")

func read(t *testing.T, url string) *reader {
	t.Helper()
	ctx, end := context.WithCancelCause(t.Context())
	r := &reader{client: &Client{URL: url}, events: make(chan Event, 10000), end: end, result: make(chan error, 1)}
	go func() { r.result <- r.client.Run(ctx, func(e Event) { r.events <- e }) }()
	t.Cleanup(func() {
		end(errEnd)
		if err := <-r.result; !errors.Is(err, errEnd) {
			t.Errorf("Run returned %v, not the cause of its end", err)
		}
	})
	return r
}

func (r *reader) next(t *testing.T) Event {
	t.Helper()
	select {
	case e := <-r.events:
		return e
	case <-time.After(time.Minute):
		t.Fatal("no event came")
		return Event{}
	}
}

func (r *reader) expect(t *testing.T, want ...Event) {
	t.Helper()
	for _, w := range want {
		if diff := cmp.Diff(w, r.next(t)); diff != "" {
			t.Fatalf("-want +got\n%s", diff)
		}
	}
}

func TestEventsComeInOrderAfterAResync(t *testing.T) {
	log := NewLog(100)
	log.Append(Event{Kind: Services, Namespace: "old", Service: "unseen"})
	srv := httptest.NewServer(log)
	defer srv.Close()
	r := read(t, srv.URL)
	defer r.end(errEnd)
	r.expect(t, Event{Revision: 1, Kind: Resync})
	if !r.client.Standing() {
		t.Error("the watch doesn't stand, but tells")
	}
	for i := range 50 {
		e := Event{Kind: Instances, Namespace: "prod", Service: fmt.Sprint("s", i)}
		log.Append(e)
		e.Revision = uint64(i + 2)
		r.expect(t, e)
	}
}

// A broken connection costs nothing: what was appended meanwhile follows, and
// there is no resync.
func TestResumesWhereItWas(t *testing.T) {
	log := NewLog(100)
	var refuse atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse.Load() {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		log.ServeHTTP(w, r)
	}))
	defer srv.Close()
	r := read(t, srv.URL)
	defer r.end(errEnd)
	r.expect(t, Event{Kind: Resync})
	log.Append(Event{Kind: Health, Service: "a"})
	r.expect(t, Event{Revision: 1, Kind: Health, Service: "a"})
	refuse.Store(true)
	srv.CloseClientConnections()
	log.Append(Event{Kind: Attributes, Service: "b"})
	log.Append(Event{Kind: Instances, Service: "c"})
	refuse.Store(false)
	r.expect(t, Event{Revision: 2, Kind: Attributes, Service: "b"}, Event{Revision: 3, Kind: Instances, Service: "c"})
}

func TestResyncsAfterARestart(t *testing.T) {
	var log atomic.Pointer[Log]
	log.Store(NewLog(100))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { log.Load().ServeHTTP(w, r) }))
	defer srv.Close()
	r := read(t, srv.URL)
	defer r.end(errEnd)
	r.expect(t, Event{Kind: Resync})
	log.Load().Append(Event{Kind: Health})
	r.expect(t, Event{Revision: 1, Kind: Health})
	log.Store(NewLog(100)) // another process, which has counted as far
	log.Load().Append(Event{Kind: Health})
	srv.CloseClientConnections()
	r.expect(t, Event{Revision: 1, Kind: Resync})
}

// One that is behind by more than the log holds is told so, and costs nothing.
func TestResyncsWhenLeftBehind(t *testing.T) {
	log := NewLog(8)
	var hold atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hold.Load() {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		log.ServeHTTP(w, r)
	}))
	defer srv.Close()
	r := read(t, srv.URL)
	defer r.end(errEnd)
	r.expect(t, Event{Kind: Resync})
	hold.Store(true)
	srv.CloseClientConnections()
	for range 9 {
		log.Append(Event{Kind: Health})
	}
	hold.Store(false)
	r.expect(t, Event{Revision: 9, Kind: Resync})

	missedAt := func(from uint64) bool { _, missed, _, _ := log.since(from); return missed }
	if missedAt(1) || !missedAt(0) || !missedAt(10) || missedAt(9) {
		t.Error("the log holds the newest 8 of 9: it must miss 0 and 10, not 1 and 9")
	}
}

func TestLogRefusesNonsense(t *testing.T) {
	log := NewLog(8)
	for target, want := range map[string]int{"POST " + Path: 405, "GET " + Path + "?from=-1": 400, "GET " + Path + "?from=x": 400} {
		method, url, _ := strings.Cut(target, " ")
		w := httptest.NewRecorder()
		log.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, url, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
	}
}

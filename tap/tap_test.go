package tap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"patchbay/admin/api"
	"patchbay/agentapi"
)

// agents answer with one request each, or as they are told.
type agents func(ctx context.Context, node string, want *agentapi.Tap, each func(agentapi.Tapped) error) error

func (a agents) Tap(ctx context.Context, node string, want *agentapi.Tap, each func(agentapi.Tapped) error) error {
	return a(ctx, node, want, each)
}

func status() api.Status {
	st := api.Status{Services: []api.Service{{Name: "web.prod"}, {Name: "db.prod"}}}
	for i := range MaxNodes + 2 {
		st.Sidecars = append(st.Sidecars, api.Sidecar{Node: fmt.Sprintf("prod/web/w%02d", i), Agent: &api.Agent{}, Ports: []api.PortStatus{{Service: "web.prod"}}})
	}
	st.Sidecars = append(st.Sidecars, api.Sidecar{Node: "prod/mute/m1"}, api.Sidecar{Node: "prod/front/f1", Agent: &api.Agent{}})
	return st
}

func ask(t *testing.T, s *Server, query string) (int, string) {
	t.Helper()
	srv := httptest.NewServer(s)
	defer srv.Close()
	resp, err := http.Post(srv.URL+"/?"+query, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.ReplaceAll(string(b), `\"`, `"`)
}

func TestWhatIsRefused(t *testing.T) {
	s := &Server{Status: status, Log: slog.New(slog.DiscardHandler)}
	for query, want := range map[string][]string{
		"":                                 {`name ""; allowed: a service`},
		"name=x&sample=0&for=2h&rate=5000": {`sample "0"; allowed: 0.0001 to 100`, `for "2h"; allowed: up to 1h0m0s`, `rate "5000"; allowed: 1 to 1000`},
		"name=x&status=700&path=a&direction=up&query=maybe": {`status "700"; allowed: such as 503`, `path "a"; allowed: how paths begin`, `direction "up"; allowed: ingress, egress, both`, `query "maybe"; allowed: true or false`},
		"name=frnt":      {`called "frnt"; did you mean front?`},
		"name=unheardof": {`called "unheardof"; there are: web.prod, db.prod, prod/web/w00`},
		"name=m1":        {"no agent of prod/mute/m1 is connected"},
		"name=db.prod":   {"no sidecar with an agent offers db.prod: look at a caller's instead"},
	} {
		code, body := ask(t, s, query)
		for _, w := range want {
			if code != http.StatusBadRequest || !strings.Contains(body, w) {
				t.Errorf("%s: %d %s, want %s", query, code, body, w)
			}
		}
	}
}

func TestStatuses(t *testing.T) {
	for text, want := range map[string][2]uint32{"503": {503, 503}, "5xx": {500, 599}, "4XX": {400, 499}, "400-499": {400, 499}, "": {}} {
		if w, err := parse(url.Values{"name": {"x"}, "status": {text}}); err != nil || w.status != want {
			t.Errorf("%s: %v %v", text, w.status, err)
		}
	}
	for _, text := range []string{"5x", "xx", "99", "600", "500-400", "-", "5xx-"} {
		if w, err := parse(url.Values{"name": {"x"}, "status": {text}}); err == nil {
			t.Errorf("%s: %v", text, w.status)
		}
	}
}

// TestQueryRoundTrip: what the command asks for is what is understood.
func TestQueryRoundTrip(t *testing.T) {
	w := Wanted{Name: "web.prod", Sample: 0.5, For: DefaultTime, Rate: 7, Status: "5xx", Path: "/a b", Direction: Egress, ShowQuery: true, Headers: true}
	got, err := parse(w.Query())
	if d := cmp.Diff(w, got, cmpopts.IgnoreUnexported(Wanted{})); err != nil || d != "" {
		t.Error(err, d)
	}
}

// TestOfAService: its tasks' ingress, of no more sidecars than are allowed; one
// that fails does not end the others.
func TestOfAService(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]string{}
	s := &Server{Status: status, Log: slog.New(slog.DiscardHandler), Agents: agents(func(_ context.Context, node string, want *agentapi.Tap, each func(agentapi.Tapped) error) error {
		mu.Lock()
		defer mu.Unlock()
		if asked[node] = want.GetDirection(); node == "prod/web/w03" {
			return errors.New("prod/web/w03: too old")
		}
		return each(agentapi.Tapped{Sample: want.GetSample(), Requests: []agentapi.Request{{Path: "/of/" + node}}})
	})}
	code, body := ask(t, s, "name=web.prod&sample=1")
	if code != http.StatusOK || len(asked) != MaxNodes || asked["prod/web/w00"] != Ingress || !strings.Contains(body, "seen by 16 sidecars that offer it (of 18; 16 is the most)") {
		t.Errorf("%d, %d asked, %s", code, len(asked), body)
	}
	for _, want := range []string{"prod/web/w03: too old", "/of/prod/web/w15", "prod/web/w00: 1 % of its requests are looked at", `"ended":true}`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
	if _, body := ask(t, s, "name=prod/web/w03"); !strings.Contains(body, `"ended":true,"error":"prod/web/w03: too old"`) {
		t.Errorf("none shows anything: %s", body)
	}
}

// TestHowMany: more operators than allowed are refused, and a place is free
// again when one leaves.
func TestHowMany(t *testing.T) {
	begun := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := &Server{Status: status, Log: slog.New(slog.DiscardHandler), Agents: agents(func(ctx context.Context, _ string, _ *agentapi.Tap, _ func(agentapi.Tapped) error) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})}
	var wg sync.WaitGroup
	for range MaxTaps {
		wg.Go(func() {
			s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodPost, "/?name=f1", nil))
		})
		<-begun
	}
	if code, body := ask(t, s, "name=f1"); code != http.StatusTooManyRequests || !strings.Contains(body, "4 taps already") {
		t.Errorf("%d %s", code, body)
	}
	cancel()
	wg.Wait()
	if n := s.open.Load(); n != 0 {
		t.Errorf("%d are still counted", n)
	}
}

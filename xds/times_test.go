package xds

import (
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// Timeouts and delays that policies ask for, on a real Envoy.
func TestTimesOfAPolicy(t *testing.T) {
	c := startControl(t, 0)
	release := make(chan struct{})
	app := application(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			io.WriteString(w, "so far")
			w.(http.Flusher).Flush()
		}
		if r.URL.Path != "/" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	})
	greeted, _ := greeter(t)
	routed := under(t, "routed", `{"routes": [{"match": {"path": "/brief"}, "timeout": {"perRequest": "200ms"}}, {"match": {"path": "/begun"}, "timeout": {"idle": "1s"}}]}`, app)
	quiet, late, raw := under(t, "quiet", `{}`, app), under(t, "late", `{}`, app), under(t, "raw", `{}`, greeted)
	raw.Protocol = mesh.TCP
	c.store.SetServices("prod", []*mesh.Service{routed, quiet, late, raw})
	c.policies = map[string]*policy.Policy{
		"quiet": wants(t, `{"timeout": {"idle": "1s"}}`), "raw": wants(t, `{"timeout": {"idle": "1s"}}`),
		"late": wants(t, `{"fault": {"delay": {"duration": "300ms", "percent": 100}}}`),
	}
	c.task(t, "prod/web/1", "")

	other := make(chan int)
	go func() { other <- codeOf(patient, routed.Aliases[0], "/other") }()
	if code := codeOf(patient, routed.Aliases[0], "/brief"); code != http.StatusGatewayTimeout {
		t.Errorf("beyond the time of its route: %d", code)
	}
	var silent sync.WaitGroup
	for n, a := range map[string]mesh.Alias{"the route": routed.Aliases[0], "the caller": quiet.Aliases[0]} {
		silent.Go(func() {
			resp, err := patient.Get("http://" + vip(a) + "/begun") //nolint:noctx // the client has a limit
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); err == nil || string(got) != "so far" {
				t.Errorf("an answer that stops for longer than %s allows: %q, %v", n, got, err)
			}
		})
	}
	conn, said, err := greeting(raw.Aliases[0])
	if err != nil || said != "hello" {
		t.Fatalf("%q, %v", said, err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); err != nil || len(got) != 0 {
		t.Errorf("a connection that is silent for longer than the caller allows: %q, %v", got, err)
	}
	silent.Wait()
	began := time.Now()
	if code := codeOf(patient, late.Aliases[0], "/"); code != http.StatusOK || time.Since(began) < 250*time.Millisecond {
		t.Errorf("%d after %v, want a delay", code, time.Since(began))
	}
	close(release)
	if code := <-other; code != http.StatusOK {
		t.Errorf("a request of another route: %d", code)
	}
}

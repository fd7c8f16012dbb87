package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/audit"
	"patchbay/internal/envoytest"
)

// deployed is a declaration with policies of the guide.
func deployed(t *testing.T, declaration, policies string) string {
	t.Helper()
	var all, more map[string]json.RawMessage
	for text, into := range map[string]*map[string]json.RawMessage{declaration: &all, policies: &more} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
	all["policies"] = more["policies"]
	out, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestMutualTLSGuide does what docs/guides/mutual-tls.md says: it deploys the
// backend with each of its policies while the frontend calls it, and runs its
// commands.
func TestMutualTLSGuide(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	_, app := listen(t, "hello")
	alias := uint16(freePort(t))
	join := p.joinDir("backend", "backend")
	back := p.sidecar(join, "b0", offering(t, "backend", app, alias))
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	back.until(serving)
	front.until(serving)
	front.answers("backend.demo", alias, "hello")
	stop := front.calling("backend.demo", alias)
	var batch *member
	g := p.guide("mutual-tls.md", map[string]uint16{"8080": alias})
	tasks := 0
	g.deploy = func(_, policies string) {
		tasks++
		next := p.sidecar(join, fmt.Sprintf("b%d", tasks), deployed(t, offering(t, "backend", app, alias), policies))
		next.until(serving)
		if err := back.stop(); err != nil {
			t.Error(err)
		}
		back = next
	}
	for _, s := range g.steps(6) {
		if batch == nil && strings.Contains(s.text, "explain batch") {
			stop()
			if err := front.stop(); err != nil { // both Envoys would have the alias: this machine is one task
				t.Error(err)
			}
			batch = p.sidecar(p.joinDir("batch"), "a1", clientOnly)
			batch.until(serving)
			envoytest.Eventually(t, 10*time.Second, func() error {
				if _, err := batch.get("backend.demo", alias); err == nil || !strings.Contains(err.Error(), "403 Forbidden: RBAC: access denied") {
					return fmt.Errorf("a call of batch: %w", err)
				}
				return nil
			})
			defer batch.knocking("backend.demo", alias)()
		}
		g.do(s)
	}
	log, err := os.ReadFile(audit.File(p.cfg.Data))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"frontend", "batch"} {
		if !strings.Contains(string(log), `"kind":"certificate.issued","actor":"control plane","subject":"workload/`+w+`.demo"`) {
			t.Errorf("the audit log does not tell of the certificate of %s", w)
		}
	}
}

// knocking calls a name now and then, whatever comes of it, until stop is
// called.
func (m *member) knocking(name string, port uint16) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	tick := time.NewTicker(100 * time.Millisecond)
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_, _ = m.get(name, port)
			}
		}
	}()
	return func() { tick.Stop(); close(done); <-ended }
}

// calling calls a name without pause until stop is called; no call may fail.
func (m *member) calling(name string, port uint16) (stop func()) { return m.tally(name, port).end }

// TestNoCallFailsOnTheWayBackFromMutualTLS: a task that requires certificates is
// replaced by one that asks for none. For as long as both live, both are called,
// and none of the calls fails, although nothing is tried again.
func TestNoCallFailsOnTheWayBackFromMutualTLS(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	_, oldApp := listen(t, "old")
	_, newApp := listen(t, "new")
	alias := uint16(freePort(t))
	join := p.joinDir("backend", "backend")
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	strict := p.sidecar(join, "b0", deployed(t, offering(t, "backend", oldApp, alias), `{"policies": {"backend": {"retries": {"max": 0}, "mutualTls": {"mode": "required"}}}}`))
	strict.until(serving)
	front.until(serving)
	front.answers("backend.demo", alias, "old")
	calls := front.tally("backend.demo", alias)
	certificate := func(of string) {
		t.Helper()
		envoytest.Eventually(t, 30*time.Second, func() error {
			out, _ := p.command("explain", "frontend", fmt.Sprintf("http://backend.demo:%d/", alias))
			if !strings.Contains(out, of) || strings.Contains(out, "✓ certificate") != (of != "") || !strings.Contains(out, "every hop looks right") {
				return fmt.Errorf("want %q of certificates, explain says\n%s", of, out)
			}
			return nil
		})
	}
	certificate("required: the client shows spiffe://test.patchbay/workload/demo/frontend")

	lax := p.sidecar(join, "b1", deployed(t, offering(t, "backend", newApp, alias), `{"policies": {"backend": {"retries": {"max": 0}}}}`))
	lax.until(serving)
	certificate("permissive: the client shows spiffe://test.patchbay/workload/demo/frontend")
	calls.more("new", 20) // its callers know the new task, and that the service asks no longer
	calls.more("old", 20)
	if err := strict.stop(); err != nil {
		t.Error(err)
	}
	certificate("")
	calls.more("new", 20)
	calls.end()
}

// tally are the calls of a name, one after the other, by what they were answered.
type tally struct {
	t       *testing.T
	mu      sync.Mutex
	answers map[string]int
	failed  []error
	end     func() // no call may have failed
}

func (m *member) tally(name string, port uint16) *tally {
	c := &tally{t: m.t, answers: map[string]int{}}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			answer, err := m.get(name, port)
			c.mu.Lock()
			if c.answers[answer]++; err != nil {
				c.failed = append(c.failed, err)
			}
			c.mu.Unlock()
		}
	}()
	c.end = sync.OnceFunc(func() {
		close(done)
		<-ended
		if len(c.failed) > 0 {
			c.t.Errorf("%d calls failed (the answers were %v), the first: %v", len(c.failed), c.answers, c.failed[0])
		}
	})
	m.t.Cleanup(c.end)
	return c
}

// more waits until so many more calls have had an answer.
func (c *tally) more(answer string, n int) {
	c.t.Helper()
	count := func() int { c.mu.Lock(); defer c.mu.Unlock(); return c.answers[answer] }
	before := count()
	envoytest.Eventually(c.t, 30*time.Second, func() error {
		if got := count() - before; got < n {
			return fmt.Errorf("%d more of %d answers %q", got, n, answer)
		}
		return nil
	})
}

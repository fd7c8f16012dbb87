package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/audit"
	"patchbay/internal/envoytest"
)

// offers is a service without TLS.
func offers(name string, appPort, ingress, alias uint16) string {
	return fmt.Sprintf(`{"serviceConnectConfiguration": {"enabled": true, "namespace": "demo", "services": [{
		"portName": "web", "discoveryName": %q, "ingressPortOverride": %d, "clientAliases": [{"port": %d}]}]},
		"portMappings": [{"name": "web", "containerPort": %d, "appProtocol": "http"}]}`, name, ingress, alias, appPort)
}

// TestDeployments runs docs/guides/deployments.md on a real mesh.
func TestDeployments(t *testing.T) {
	p := startPlane(t)
	g := p.guide("deployments.md", nil)
	blocks := g.steps(9)
	blocks = slices.Delete(blocks, 6, 8) // TestDeclaredStrategy's
	alias := uint16(freePort(t))
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	front.until(serving)
	join := p.joinDir("backend", "backend")
	var broken atomic.Bool
	for i, revision := range []string{"blue", "green"} {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if revision == "green" && broken.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
			io.WriteString(w, revision)
		}))
		t.Cleanup(app.Close)
		t.Setenv("PATCHBAY_REVISION", revision)
		m := p.sidecar(join, revision, offers("backend", uint16(app.Listener.Addr().(*net.TCPAddr).Port), uint16(freePort(t)), alias))
		m.until(serving)
		if i == 0 {
			front.answers("backend.demo", alias, "blue")
			g.do(blocks[0])
		}
	}
	p.prints(exitDone, `backend\.demo .* 2 healthy, blue 100 %`, "status")
	tested := func(want string) {
		t.Helper()
		envoytest.Eventually(t, 10*time.Second, func() error {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s:%d/", front.lookup("backend.demo"), alias), http.NoBody)
			if err != nil {
				return err
			}
			req.Header.Set("x-amzn-ecs-blue-green-test", "yes")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != want {
				return fmt.Errorf("test traffic reaches %s, %w", b, err)
			}
			return nil
		})
	}
	for i, after := range []func(){
		1: func() { tested("green"); front.answers("backend.demo", alias, "blue") },
		2: func() { front.answers("backend.demo", alias, "green") },
		3: func() { front.answers("backend.demo", alias, "blue") },
		4: func() { tested("green") },
		5: func() { tested("blue") },
		6: func() { front.answers("backend.demo", alias, "green") },
	} {
		if i == 0 {
			continue
		}
		g.do(blocks[i])
		after()
	}
	p.halves()
	p.prints(exitDone, `every hop looks right`, "explain", "frontend", fmt.Sprintf("http://backend.demo:%d/", alias))
	p.prints(exitDone, `demo/frontend/f1 has what it should have`, "diff", "f1")
	p.prints(exitDone, `blue 50 %, green 50 %`, "status")
	p.rollsBack(front, alias, &broken)
	p.prints(exitUsage, `to: "gren" has no endpoint; backend\.demo has: blue \(1 endpoint\), green \(1 endpoint\)`, "shift", "backend.demo", "--to", "gren")
	p.prints(exitUsage, `allowed: --to with what moves, or one of --status, --abort, --end`, "shift", "backend.demo", "--weight", "3")
	p.needsToken()
}

// TestDeclaredStrategy: a deployment that nobody orders, as the guide says.
func TestDeclaredStrategy(t *testing.T) {
	p := startPlane(t)
	g := p.guide("deployments.md", nil)
	steps := g.steps(9)
	declares, shows := steps[6], steps[7]
	more := strings.TrimSuffix(strings.TrimPrefix(declares.text, "{"), "}\n")
	alias := uint16(freePort(t))
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	front.until(serving)
	join := p.joinDir("orders", "orders")
	for i, revision := range []string{"blue", "green"} {
		_, port := listen(t, revision)
		t.Setenv("PATCHBAY_REVISION", revision)
		m := p.sidecar(join, revision, strings.Replace(offers("orders", port, uint16(freePort(t)), alias), "{", "{"+more+",", 1), "--profile", "strict")
		m.until(serving)
		if i == 0 {
			front.answers("orders.demo", alias, "blue")
			envoytest.Eventually(t, 10*time.Second, func() error {
				if out, _ := p.command("shift", "orders.demo", "--status"); !strings.Contains(out, "orders.demo: blue 100 %") {
					return fmt.Errorf("blue does not hold production: %s", out)
				}
				return nil
			})
		}
	}
	g.do(shows)
	front.answers("orders.demo", alias, "green")
	front.answers("orders.demo", alias, "blue")
	p.prints(exitUsage, `to: the newest revision, green, has its calls already`, "shift", "orders.demo")
}

// halves gives both revisions as many calls.
func (p *plane) halves(more ...string) {
	p.t.Helper()
	out, exit := p.command(append([]string{"shift", "backend.demo", "--to", "green", "--from", "blue", "--weight", "50"}, more...)...)
	if exit != exitDone || out != "backend.demo moves from blue to green: 50 % of the calls\n" {
		p.t.Fatalf("exit code %d: %s", exit, out)
	}
}

// rollsBack: a revision whose requests fail loses them.
func (p *plane) rollsBack(front *member, alias uint16, broken *atomic.Bool) {
	t := p.t
	t.Helper()
	p.halves("--rollback-on-failures", "5%")
	broken.Store(true)
	envoytest.Eventually(t, 40*time.Second, func() error {
		for range 20 {
			front.get("backend.demo", alias) // half of them fail
		}
		if out, _ := p.command("shift", "backend.demo", "--status"); !strings.Contains(out, "rolled back: ") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	for range 5 {
		front.answers("backend.demo", alias, "blue")
	}
}

// needsToken: moving calls is an action, and every one is audited.
func (p *plane) needsToken() {
	t := p.t
	t.Helper()
	resp, err := http.Post("http://"+p.cfg.Admin.Listen+"/api/v1/shift?"+url.Values{"service": {"backend.demo"}, "end": {"yes"}}.Encode(), "", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token: %s", resp.Status)
	}
	envoytest.Eventually(t, 5*time.Second, func() error {
		log, err := os.ReadFile(audit.File(p.cfg.Data))
		if err == nil && strings.Count(string(log), "POST /api/v1/shift") < 10 {
			err = fmt.Errorf("the audit log has\n%s", log)
		}
		return err
	})
}

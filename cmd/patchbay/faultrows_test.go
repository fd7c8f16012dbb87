//go:build faultrows

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/admin/api"
	"patchbay/agentapi"
	"patchbay/config"
	"patchbay/controlplane/answers"
	"patchbay/discovery"
	"patchbay/identity"
	"patchbay/identity/join"
	"patchbay/identity/registered"
	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/registry"
	"patchbay/registry/store"
	"patchbay/xds/bootstrap"
)

// door is a registry in front of which answers to one control plane can be
// spoilt. What it writes gets through.
type door struct {
	http.Handler
	mu    sync.Mutex
	spoil func(op string, w http.ResponseWriter, r *http.Request) bool
	calls int
}

func (d *door) is(f func(op string, w http.ResponseWriter, r *http.Request) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spoil, d.calls = f, 0
}

func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	d.mu.Lock()
	spoil := d.spoil
	d.calls++
	d.mu.Unlock()
	if spoil != nil && spoil(op, w, r) {
		return
	}
	d.Handler.ServeHTTP(w, r)
}

// away answers every question with an error.
func away(status int, body string) func(string, http.ResponseWriter, *http.Request) bool {
	return func(_ string, w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(status)
		io.WriteString(w, body) //nolint:errcheck // test
		return true
	}
}

// thinned lets the discover calls show so many instances at most, at a revision
// that grows with every answer.
func (d *door) thinned(most int) func(string, http.ResponseWriter, *http.Request) bool {
	var rev atomic.Int64
	return func(op string, w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(op, "Discover") {
			return false
		}
		rec := httptest.NewRecorder()
		d.Handler.ServeHTTP(rec, r)
		var answer map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
			return false
		}
		if all, ok := answer["Instances"].([]any); ok {
			slices.SortFunc(all, func(a, b any) int {
				id := func(i any) string { return fmt.Sprint(i.(map[string]any)["InstanceId"]) } //nolint:forcetypeassert // it is one
				return strings.Compare(id(a), id(b))
			})
			answer["Instances"] = all[:min(most, len(all))]
		}
		if now, ok := answer["InstancesRevision"].(float64); ok {
			answer["InstancesRevision"] = int64(now) + rev.Add(1)
		}
		json.NewEncoder(w).Encode(answer) //nolint:errcheck // test
		return true
	}
}

// rows is one mesh on real Envoys: two control planes over one registry, each
// behind a door; tasks of one service that is called all the time.
type rows struct {
	t     *testing.T
	a, b  *plane
	doors [2]*door
	queue *queue
	short *gate // before the CA of the service that is called short
	event int
}

// anybody sets credentials that a stand-in for AWS takes.
func anybody(t *testing.T) {
	t.Helper()
	for name, v := range map[string]string{"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_EC2_METADATA_DISABLED": "true"} {
		if err := os.Setenv(name, v); err != nil { //nolint:usetesting // t.Setenv forbids parallel tests
			t.Fatal(err)
		}
	}
}

func newRows(t *testing.T) *rows {
	anybody(t)
	r := &rows{t: t, queue: startQueue(t)}
	reg := registry.New(&store.Memory{}, registry.Options{})
	running(t, func(ctx context.Context) error { return reg.Run(ctx) })
	shared := t.TempDir()
	if _, err := identity.OpenSigner(shared, testDomain); err != nil {
		t.Fatal(err)
	}
	var first *config.Config
	replica := func(i int) func(*config.Config) {
		r.doors[i] = &door{Handler: reg}
		srv := httptest.NewServer(r.doors[i])
		t.Cleanup(srv.Close)
		return func(c *config.Config) {
			c.Registry, c.CloudMap = nil, &config.CloudMap{Endpoint: srv.URL, Region: "us-east-1"}
			c.Replicas = &config.Replicas{Listen: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
			if err := os.CopyFS(identity.ControlDir(c.Data), os.DirFS(shared)); err != nil {
				t.Fatal(err)
			}
			if first != nil { // one mesh: the same CAs and workloads
				c.Issuers = first.Issuers
				if err := os.Symlink(registered.Dir(first.Data), registered.Dir(c.Data)); err != nil {
					t.Fatal(err)
				}
				return
			}
			c.CloudMap.Events = r.queue.config()
			if err := os.MkdirAll(registered.Dir(c.Data), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.a = startPlane(t, replica(0))
	first = &r.a.cfg
	r.b = startPlane(t, replica(1))
	return r
}

// gate passes connections on while it is open, and drops them while not.
type gate struct {
	net.Listener
	closed atomic.Bool
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	g := &gate{Listener: l}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil || g.closed.Load() {
				in.Close()
				continue
			}
			through := func(to, from net.Conn) {
				defer to.Close()
				b := make([]byte, 32<<10)
				for {
					n, err := from.Read(b)
					if err != nil || g.closed.Load() {
						return
					}
					if _, err := to.Write(b[:n]); err != nil {
						return
					}
				}
			}
			go through(in, out)
			go through(out, in)
		}
	}()
	return g
}

// called are the ports of the aliases.
var called = map[string]uint16{"steady": 18181, "short": 18182}

// offer starts a task of a service with TLS, with a real Envoy.
func (r *rows) offer(service, task, issuer string, app http.Handler) (alias string) {
	t := r.t
	t.Helper()
	srv := httptest.NewServer(app)
	t.Cleanup(srv.Close)
	appPort, ingress := uint16(srv.Listener.Addr().(*net.TCPAddr).Port), uint16(freePort(t))
	at := called[service]
	k, _ := r.a.joinAs(service, task, service)
	send(t, k, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Ports: []*agentapi.Port{{
		PortName: "web", DiscoveryName: service, AppProtocol: "http", ContainerPort: uint32(appPort), IngressPort: uint32(ingress),
		ClientAliases: []*agentapi.ClientAlias{{DnsName: service + ".demo", Port: uint32(at)}}, Tls: &agentapi.Tls{Issuer: issuer},
	}}, ContainerPorts: []uint32{uint32(appPort)}}}})
	r.envoy(k, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, Dependencies: []string{"nothing"}, ContainerPorts: []uint16{appPort}, Ports: []bootstrap.Port{{
		PortName: "web", DiscoveryName: service, Protocol: mesh.HTTP, AppPort: appPort, ListenerPort: ingress, TLS: &bootstrap.PortTLS{Issuer: issuer},
	}}})
	send(t, k, &agentapi.Up{Message: &agentapi.Up_Health{Health: &agentapi.Health{EnvoyReady: true, Ports: map[string]agentapi.Health_State{"web": agentapi.Health_HEALTHY}}}})
	if got := receive(t, k, (*agentapi.Down).GetRegistration); !got.GetRegistered() {
		t.Fatalf("not registered: %s", got.GetError())
	}
	return fmt.Sprintf("127.0.0.1:%d", ingress)
}

// envoy runs a task's Envoy, which may speak to either control plane.
func (r *rows) envoy(k *task, meta bootstrap.NodeMeta) {
	r.t.Helper()
	var xds []bootstrap.HostPort
	for _, p := range []*plane{r.a, r.b} {
		if p == nil {
			continue
		}
		host, text, _ := net.SplitHostPort(p.cfg.XDS.Listen)
		port, _ := strconv.ParseUint(text, 10, 16)
		xds = append(xds, bootstrap.HostPort{Host: host, Port: uint16(port)})
	}
	b, err := bootstrap.Config{
		NodeID: k.id, NodeCluster: k.id[:strings.LastIndexByte(k.id, '/')], Meta: meta, XDS: xds,
		TLSDir: k.dir, ServerName: join.ServerName(testDomain), AdminSocket: k.dir + "/admin.sock",
	}.JSON()
	if err != nil {
		r.t.Fatal(err)
	}
	k.envoy = envoytest.Start(r.t, b, k.dir+"/admin.sock", "")
	k.envoy.Ready(r.t)
}

// hint makes the first control plane ask about a service now.
func (r *rows) hint(service string) {
	r.event++
	r.queue.changed(service, fmt.Sprint("x", r.event), "RUNNING", "RUNNING", 1)
}

// during runs f while a target is called, and wants no failure.
func (r *rows) during(row string, x target, f func()) {
	r.t.Helper()
	l := startLoad(x)
	f()
	l.stop()
	r.t.Logf("%s: %d requests, %d failed", row, l.done.Load(), l.failed.Load())
	if l.failed.Load() > 0 || l.done.Load() < 20 {
		r.t.Errorf("%s: %d of %d requests failed: %v", row, l.failed.Load(), l.done.Load(), l.last.Load())
	}
}

func (r *rows) status(p *plane, service string) (found answers.Service) {
	r.t.Helper()
	var all []answers.Namespace
	if err := json.Unmarshal(p.get("/api/v1/namespaces"), &all); err != nil {
		r.t.Fatal(err)
	}
	for _, s := range all[0].Services {
		if s.Name == service+".demo" {
			return s
		}
	}
	return found
}

// until waits for a condition on the status of a service.
func (r *rows) until(what string, p *plane, service string, ok func(answers.Service) bool) {
	r.t.Helper()
	envoytest.Eventually(r.t, 45*time.Second, func() error {
		if s := r.status(p, service); !ok(s) {
			return fmt.Errorf("%s: %+v", what, s)
		}
		return nil
	})
}

func hello() (http.Handler, func() int) {
	var mu sync.Mutex
	n := 0
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			n++
			mu.Unlock()
			io.WriteString(w, "hello") //nolint:errcheck // test
		}), func() int {
			mu.Lock()
			defer mu.Unlock()
			return n
		}
}

// caller starts the task that calls a service, and waits until it can.
func (r *rows) caller(service string) target {
	t := r.t
	t.Helper()
	k, _ := r.a.joinAs("caller", "t1")
	send(t, k, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind"}}})
	r.envoy(k, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind})
	names := receive(t, k, (*agentapi.Down).GetNames)
	for len(names.GetNames()) == 0 {
		names = receive(t, k, (*agentapi.Down).GetNames)
	}
	url := fmt.Sprintf("http://%s:%d/", names.GetNames()[0].GetVip(), called[service])
	envoytest.Eventually(t, 20*time.Second, func() error { return get(&http.Client{}, url) })
	return target{&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, url}
}

// TestRegistryRows are rows F4 to F6 and F34 of what must not hurt: on one mesh,
// with requests through real Envoys all the time.
func TestRegistryRows(t *testing.T) {
	t.Parallel()
	r := newRows(t)
	for i := range 4 {
		app, _ := hello()
		r.offer("steady", fmt.Sprintf("t%d", i+1), "default", app)
	}
	steady := r.caller("steady")
	r.until("four endpoints", r.a, "steady", func(s answers.Service) bool { return s.Endpoints == 4 })
	r.registryRows(steady)
	r.replicaRow(steady)
}

// TestCertificateRows are rows F7 and F8.
func TestCertificateRows(t *testing.T) {
	t.Parallel()
	r := &rows{t: t}
	r.a = startPlane(t, func(c *config.Config) {
		ca := c.Issuers["default"].StepCA
		r.short = newGate(t, strings.TrimPrefix(ca.URL, "https://"))
		ca.URL, ca.Lifetime = "https://"+r.short.Addr().String(), time.Minute
		c.Registry.Lease = time.Hour // the agents here are tests
	})
	r.certificates()
}

// registryRows are F4 to F6.
func (r *rows) registryRows(steady target) {
	whole := func(s answers.Service) bool { return s.Endpoints == 4 }
	r.during("F4, throttled, broken, silent", steady, func() {
		const each = 5 * time.Second
		for _, ill := range []func(string, http.ResponseWriter, *http.Request) bool{
			away(400, `{"__type":"ThrottlingException","Message":"Rate exceeded"}`),
			away(503, "<html>busy</html>"),
			func(string, http.ResponseWriter, *http.Request) bool {
				time.Sleep(2500 * time.Millisecond)
				return false
			}, //nolint:forbidigo // a slow registry
		} {
			r.doors[0].is(ill)
			r.hint("steady")
			for end := time.After(each); ; {
				select {
				case <-end:
				case <-time.After(100 * time.Millisecond):
					if s := r.status(r.a, "steady"); !whole(s) {
						r.t.Errorf("F4: endpoints were lost: %+v", s)
					}
					continue
				}
				break
			}
			if n := r.doors[0].count(); n > 100 {
				r.t.Errorf("F4: %d calls in %s of an ill registry", n, each)
			}
		}
		r.doors[0].is(nil)
		r.until("F4: live again", r.a, "steady", func(s answers.Service) bool { return whole(s) && s.Source == discovery.Live && s.Error == "" })
	})
	r.during("F5, nothing for 12 s", steady, func() {
		r.doors[0].is(r.doors[0].thinned(0))
		r.hint("steady")
		r.until("F5: held", r.a, "steady", func(s answers.Service) bool { return s.Held == 4 && whole(s) })
		for end := time.Now().Add(12 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) { //nolint:forbidigo // as long as the row says
			if s := r.status(r.a, "steady"); !whole(s) {
				r.t.Fatalf("F5: endpoints were lost: %+v", s)
			}
		}
		r.doors[0].is(nil)
		r.hint("steady")
		r.until("F5: over", r.a, "steady", func(s answers.Service) bool { return s.Held == 0 && whole(s) })
	})
	r.during("F6, three of four gone in one answer", steady, func() {
		r.doors[0].is(r.doors[0].thinned(1))
		r.hint("steady")
		r.until("F6: held", r.a, "steady", func(s answers.Service) bool { return s.Held > 0 })
		r.doors[0].is(nil) // the second answer does not confirm it
		r.until("F6: over", r.a, "steady", func(s answers.Service) bool { return s.Held == 0 && whole(s) })
	})
}

// certificates are F7 and F8: the CA is away from before a renewal is due until
// after the certificate has expired.
func (r *rows) certificates() {
	t := r.t
	app, _ := hello()
	ingress := r.offer("short", "t1", "default", app)
	short := r.caller("short")
	serial := func() string {
		for _, c := range r.answer().Services {
			if c.Service == "short.demo" {
				return c.Serial
			}
		}
		return ""
	}
	leaf := func() (answers.Certificate, bool) {
		for _, c := range r.answer().Services {
			if c.Service == "short.demo" {
				return c, c.Serial != ""
			}
		}
		return answers.Certificate{}, false
	}
	before, ok := leaf()
	if !ok {
		t.Error("F7: no certificate")
		return
	}
	r.short.closed.Store(true)
	r.during("F7, the CA is away until the certificate almost ends", short, func() {
		time.Sleep(time.Until(before.NotAfter.Add(-2 * time.Second))) //nolint:forbidigo // as long as the row says
		if now := serial(); now != before.Serial {
			t.Errorf("F7: another certificate, %s, came from a CA that is away", now)
		}
		if c, _ := leaf(); !c.Alarm || c.LastError == "" || c.Failures == 0 {
			t.Errorf("F7: nobody is told: %+v", c)
		}
	})
	time.Sleep(time.Until(before.NotAfter.Add(2 * time.Second)))                 //nolint:forbidigo // likewise
	conn, err := tls.Dial("tcp", ingress, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it has expired
	if err != nil {
		t.Errorf("F8: the old certificate is not served: %v", err)
	} else {
		conn.Close()
	}
	if resp, err := http.Get("http://" + ingress); err == nil { //nolint:noctx // test
		resp.Body.Close()
		t.Errorf("F8: plain text is answered: %s", resp.Status)
	}
	var detail api.ServiceDetail
	if err := json.Unmarshal(r.a.get("/api/v1/service?name=short.demo"), &detail); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(detail.RootsPEM))
	if conn, err := tls.Dial("tcp", ingress, &tls.Config{RootCAs: roots, ServerName: "short.demo"}); err == nil {
		conn.Close()
		t.Error("F8: the certificate has not expired")
	}
	if v := value(r.a.metrics()["patchbay_leaves_failing"], nil); v < 1 {
		t.Errorf("F8: patchbay_leaves_failing is %v", v)
	}
	r.short.closed.Store(false)
	began := time.Now()
	envoytest.Eventually(t, time.Minute, func() error {
		if now := serial(); now == before.Serial {
			return fmt.Errorf("F8: still %s", now)
		}
		return get(short.client, short.url)
	})
	t.Logf("F8: called again %s after the CA came back", time.Since(began).Round(100*time.Millisecond))
}

func (r *rows) answer() (a answers.Certificates) {
	if err := json.Unmarshal(r.a.get("/api/v1/certificates"), &a); err != nil {
		r.t.Error(err)
	}
	return a
}

// replicaRow is F34: a replica that the registry does not answer knows that it is
// behind, and takes no Envoy that knows more.
func (r *rows) replicaRow(steady target) {
	t := r.t
	r.doors[1].is(away(503, ""))
	app, hits := hello()
	r.offer("steady", "t5", "default", app)
	r.until("F34: five endpoints", r.a, "steady", func(s answers.Service) bool { return s.Endpoints == 5 })
	envoytest.Eventually(t, 30*time.Second, func() error {
		status, body := r.b.ask("/readyz")
		if status == http.StatusOK || !strings.Contains(string(body), "another replica has a newer answer") {
			return fmt.Errorf("F34: the stale replica says %d %s", status, body)
		}
		return nil
	})
	r.during("F34, only a stale replica is left", steady, func() {
		r.a.end()
		n := hits()
		time.Sleep(5 * time.Second) //nolint:forbidigo // Envoys try the stale one
		if hits() == n {
			t.Error("F34: the newest endpoint was removed by the older view")
		}
		r.doors[1].is(nil)
		r.until("F34: caught up", r.b, "steady", func(s answers.Service) bool { return s.Endpoints == 5 })
		envoytest.Eventually(t, 40*time.Second, func() error {
			_, body := r.b.ask("/api/v1/sidecars")
			var all []map[string]any
			if err := json.Unmarshal(body, &all); err != nil || len(all) < 6 {
				return fmt.Errorf("F34: %d Envoys are connected, %v", len(all), err)
			}
			return nil
		})
		n = hits()
		envoytest.Eventually(t, 10*time.Second, func() error {
			if hits() == n {
				return fmt.Errorf("F34: the newest endpoint is not called")
			}
			return nil
		})
	})
}

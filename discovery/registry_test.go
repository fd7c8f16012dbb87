package discovery_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"patchbay/discovery"
	"patchbay/discovery/cloud"
	"patchbay/discovery/pace"
	"patchbay/mesh"
	"patchbay/registrar"
	"patchbay/registry/watch"
)

// lab is the real registry on loopback, with a door in front that can be ill,
// a registrar that writes to it and a CloudMap that follows it.
type lab struct {
	url       string
	door      *door
	store     *mesh.Store
	discovery *discovery.CloudMap
	registrar *registrar.Registrar
}

// door lets requests of discovery through, or not.
type door struct {
	http.Handler
	mu  sync.Mutex
	ill func(op string) (status int, body string) // zero status: let it pass
}

func (d *door) fail(f func(op string) (int, string)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ill = f
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	d.mu.Lock()
	ill := d.ill
	d.mu.Unlock()
	if ill != nil {
		if status, body := ill(op); status != 0 {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
			return
		}
	}
	d.Handler.ServeHTTP(w, r)
}

func newLab(t *testing.T, change ...func(*discovery.Config)) *lab {
	t.Helper()
	handler := newRegistry(t)
	direct := httptest.NewServer(handler)
	d := &door{Handler: handler}
	guarded := httptest.NewServer(d)
	cfg := aws.Config{Region: "us-east-1", Credentials: aws.AnonymousCredentials{}}
	dc := discovery.Config{
		Namespaces: []discovery.Namespace{{Name: "prod"}}, CreateNamespace: true, Budget: cloud.Unlimited,
		Watch: &watch.Client{URL: direct.URL},
	}
	for _, f := range change {
		f(&dc)
	}
	log := slog.New(slog.DiscardHandler)
	l := &lab{url: direct.URL, door: d, store: mesh.NewStore()}
	var err error
	l.discovery, err = discovery.New(dc, cloud.NewClient(cfg, cloud.ClientOptions{Endpoint: guarded.URL}), l.store, log)
	if err != nil {
		t.Fatal(err)
	}
	l.registrar = registrar.New(registrar.Config{CreateNamespace: true}, cloud.NewClient(cfg, cloud.ClientOptions{Endpoint: direct.URL, Attempts: 5}), l.discovery, log)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.discovery.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-done
		direct.CloseClientConnections()
		direct.Close()
		guarded.Close()
	})
	l.until(t, "the first picture", func(s *mesh.Snapshot) bool { return s.Synced["prod"] })
	return l
}

// until waits for a snapshot; it fails after a minute.
func (l *lab) until(t *testing.T, what string, ok func(*mesh.Snapshot) bool) *mesh.Snapshot {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		s := l.store.Snapshot()
		if ok(s) {
			return s
		}
		select {
		case <-l.store.Changed(s.Generation):
		case <-deadline:
			t.Fatalf("waited a minute for %s; have %v, status %+v", what, s.Services, l.discovery.Status())
		}
	}
}

func service(name string) mesh.ServiceName {
	return mesh.ServiceName{Namespace: "prod", DiscoveryName: name}
}

func has(name string, endpoints int) func(*mesh.Snapshot) bool {
	return func(s *mesh.Snapshot) bool {
		v := s.Service(service(name))
		return v != nil && len(v.Endpoints) == endpoints
	}
}

func port(name string, task int) registrar.Request {
	return registrar.Request{
		Instance: registrar.Instance{
			Node:          mesh.Node{Workload: mesh.Workload{Namespace: "prod", Name: name, DiscoveryNames: []string{name}}, Task: fmt.Sprintf("t%d", task)},
			DiscoveryName: name, PortName: "web",
		},
		Peer: netip.AddrFrom4([4]byte{10, 0, 0, byte(task + 1)}), ListenerPort: 15010, Health: mesh.Healthy,
		Protocol: mesh.HTTP, Aliases: []mesh.Alias{{DNSName: name, Port: 8080}},
	}
}

func (l *lab) register(t *testing.T, req registrar.Request) {
	t.Helper()
	if _, err := l.registrar.Register(t.Context(), req); err != nil {
		t.Fatal(err)
	}
}

func TestARegistrationReachesTheStore(t *testing.T) {
	l := newLab(t)
	began := time.Now()
	l.register(t, port("backend", 0))
	s := l.until(t, "a new service", has("backend", 1))
	t.Logf("a new namespace, service and instance: %s", time.Since(began))
	b := s.Service(service("backend"))
	if b.Protocol != mesh.HTTP || b.Foreign || len(b.Aliases) != 1 || !mesh.LiveVIPs.Contains(b.Aliases[0].VIP) || b.ARN == "" {
		t.Errorf("backend: %+v", b)
	}
	began = time.Now()
	l.register(t, port("backend", 1))
	l.until(t, "a second instance", has("backend", 2))
	t.Logf("a further instance: %s", time.Since(began))
	began = time.Now()
	if err := l.registrar.SetHealth(t.Context(), port("backend", 1).Instance, mesh.Unhealthy); err != nil {
		t.Fatal(err)
	}
	l.until(t, "its health", func(s *mesh.Snapshot) bool {
		return s.Service(service("backend")).Endpoints[1].Health == mesh.Unhealthy
	})
	t.Logf("its health: %s", time.Since(began))
	if err := l.registrar.Deregister(t.Context(), port("backend", 1).Instance); err != nil {
		t.Fatal(err)
	}
	if !has("backend", 1)(l.store.Snapshot()) {
		t.Error("Deregister returned before the store was told")
	}
	if err := l.registrar.Deregister(t.Context(), port("backend", 0).Instance); err != nil {
		t.Fatal(err)
	}
	l.until(t, "the last one gone, unheld", has("backend", 0))
	l.register(t, port("backend", 0))
	l.until(t, "the same task again", has("backend", 1))
}

// Another writer than our registrar: only the watch tells of it.
func TestTheWatchTellsOfOthers(t *testing.T) {
	l := newLab(t)
	cfg := aws.Config{Region: "us-east-1", Credentials: aws.AnonymousCredentials{}}
	// As many attempts as the control plane's own has: a connection that ends while
	// it is taken from the pool costs one.
	other := registrar.New(registrar.Config{CreateNamespace: true}, cloud.NewClient(cfg, cloud.ClientOptions{Endpoint: l.url, Attempts: 5}), silent{}, slog.New(slog.DiscardHandler))
	for i := range 20 {
		began := time.Now()
		name := fmt.Sprintf("s%d", i)
		if _, err := other.Register(t.Context(), port(name, i)); err != nil {
			t.Fatal(err)
		}
		l.until(t, "a service of another writer", has(name, 1))
		if took := time.Since(began); i > 0 {
			t.Logf("from the first call to the store: %s", took)
		}
	}
	began := time.Now()
	req := port("s0", 77)
	req.TLS = &mesh.ServiceTLS{Issuer: "default"}
	if _, err := other.Register(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	s := l.until(t, "TLS switched on", has("s0", 2)).Service(service("s0"))
	t.Logf("TLS switched on: %s", time.Since(began))
	if s.TLS == nil || s.Endpoints[0].TLS || !s.Endpoints[1].TLS {
		t.Errorf("s0: %+v", s)
	}
}

type silent struct{}

func (silent) Hint(mesh.ServiceName)            {}
func (silent) HintSettings(mesh.ServiceName)    {}
func (silent) Leaving(mesh.ServiceName, string) {}

// Whatever the registry answers instead of an answer, no endpoint is lost, and
// what happens meanwhile is seen when it is well again.
func TestAnIllRegistryTakesNothingAway(t *testing.T) {
	l := newLab(t, func(c *discovery.Config) {
		ms := time.Millisecond
		c.Pace = pace.Rules{Hot: []time.Duration{10 * ms}, Hinted: 20 * ms, Unhinted: 20 * ms, Health: 20 * ms, Sweep: 20 * ms, First: 10 * ms, Most: 40 * ms}
		c.Topology, c.Settings = 20*ms, 20*ms
		c.Call = 200 * time.Millisecond
	})
	for i := range 6 {
		l.register(t, port("backend", i))
	}
	l.until(t, "six", has("backend", 6))
	ills := []struct {
		status int
		body   string
	}{
		{500, ""},
		{503, "<html>busy</html>"},
		{400, `{"__type":"ThrottlingException","Message":"Rate exceeded"}`},
		{400, `{"__type":"AccessDeniedException"}`},
		{400, `{"__type":"ServiceNotFound"}`},
		{400, `{"__type":"NamespaceNotFound"}`},
		{200, `{"Instances":[{"Ins`},
		{200, ``},
		{200, `{"InstancesRevision":1,"Instances":[]}`},
		{200, `{"InstancesRevision":999999,"Instances":[]}`},
		{200, `{"Namespaces":[],"Services":[]}`},
	}
	r := rand.New(rand.NewPCG(3, 14))
	for _, ill := range ills {
		l.door.fail(func(op string) (int, string) {
			if strings.Contains(ill.body, "Namespaces") != strings.HasPrefix(op, "List") && strings.HasPrefix(ill.body, "{") && ill.status == 200 {
				return 0, "" // a well-formed answer only to its own operation
			}
			return ill.status, ill.body
		})
		quiet := time.After(150*time.Millisecond + rand.N(50*time.Millisecond))
		for hinting := true; hinting; {
			select {
			case <-quiet:
				hinting = false
			case <-time.After(time.Duration(1+r.IntN(10)) * time.Millisecond):
				l.discovery.Hint(service("backend"))
				if !has("backend", 6)(l.store.Snapshot()) {
					t.Fatalf("%d %s took endpoints away: %+v", ill.status, ill.body, l.discovery.Status())
				}
			}
		}
	}
	l.door.fail(nil)
	l.register(t, port("backend", 6))
	l.until(t, "what came after", has("backend", 7))
}

// A registry that hangs does not stop the process from ending, and is waited
// for.
func TestARegistryThatHangs(t *testing.T) {
	block := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-block:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(block) })
	store := mesh.NewStore()
	cfg := aws.Config{Region: "us-east-1", Credentials: aws.AnonymousCredentials{}}
	cm, err := discovery.New(discovery.Config{Namespaces: []discovery.Namespace{{Name: "prod"}}, Call: 20 * time.Millisecond},
		cloud.NewClient(cfg, cloud.ClientOptions{Endpoint: srv.URL}), store, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	if err := cm.Run(ctx); err != context.DeadlineExceeded { //nolint:errorlint // the cause itself
		t.Errorf("Run: %v", err)
	}
	if st := cm.Status()[0]; store.Snapshot().Synced["prod"] || len(st.Waiting) == 0 || !strings.Contains(st.Waiting[0], "ListNamespaces") {
		t.Errorf("status: %+v", st)
	}
}

func TestBadNamespaces(t *testing.T) {
	_, err := discovery.New(discovery.Config{Namespaces: []discovery.Namespace{{Name: "Prod East"}, {Name: "a"}, {Name: "a"}}}, nil, mesh.NewStore(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "Prod East") || !strings.Contains(err.Error(), "twice") {
		t.Errorf("%v", err)
	}
}

package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"patchbay/demo/lab"
	"patchbay/internal/poll"
)

// namespace and trustDomain are the demo's.
const (
	namespace   = "demo"
	trustDomain = "demo.patchbay"
)

// leafLife is short, so that a renewal can be watched. The control plane
// renews at 60 to 75 % of it by itself.
const leafLife = time.Hour

// world is the mesh of the demo: a CA, a control plane with the embedded
// registry, and tasks, each a "machine" of the lab.
type world struct {
	*lab.Lab
	bin     string // where patchbay, devca and demoapp are
	control *lab.Host
	serve   *lab.Process
	cloud   *cloud // nil: step-ca and the embedded registry
	tasks   map[string]*task
	ready   time.Duration // from the control plane's start to ready
	started time.Time     // of the control plane
}

// task is an application with its sidecar.
type task struct {
	*lab.Host
	workload string
	state    string // the agent's state directory
	app      *lab.Process
	agent    *lab.Process
}

// service is a port that a task offers, in ECS's words.
type service struct {
	name     string // portName and discoveryName
	protocol string // appProtocol; empty is tcp
	port     int    // containerPort and the alias's port
	tls      bool
}

// backendServices has one of each protocol; the first is what the load calls.
var backendServices = []service{
	{"backend", "http", 8080, true},
	{"backend-h2", "http2", 8081, true},
	{"backend-grpc", "grpc", 8082, true},
	{"backend-tcp", "", 8083, true},
}

// declaration is the task's environment variable PATCHBAY_SERVICE_CONNECT.
func declaration(services []service) string {
	type obj = map[string]any
	var mappings, entries []obj
	for _, s := range services {
		m := obj{"name": s.name, "containerPort": s.port}
		if s.protocol != "" {
			m["appProtocol"] = s.protocol
		}
		e := obj{"portName": s.name, "clientAliases": []obj{{"port": s.port}}}
		if s.tls {
			e["tls"] = obj{"issuerCertificateAuthority": obj{"awsPcaAuthorityArn": "default"}}
		}
		mappings, entries = append(mappings, m), append(entries, e)
	}
	sc := obj{"enabled": true, "namespace": namespace}
	if len(entries) > 0 {
		sc["services"] = entries
	}
	b, _ := json.Marshal(obj{"serviceConnectConfiguration": sc, "portMappings": mappings})
	return string(b)
}

// newWorld starts the CA and the control plane, and waits until it is ready.
func newWorld(ctx context.Context, bin, dir string, onCloud bool) (*world, error) {
	l, err := lab.New(ctx, dir)
	w := &world{Lab: l, bin: bin, tasks: map[string]*task{}} // its lab may be nil after an error
	if err != nil {
		return w, err
	}
	if w.control, err = l.Add(ctx, "control", 2); err != nil {
		return w, err
	}
	if onCloud {
		if err := w.startCloud(ctx); err != nil {
			return w, err
		}
		return w, w.startControl(ctx)
	}
	ca, err := l.Add(ctx, "ca", 3)
	if err != nil {
		return w, err
	}
	caDir := filepath.Join(dir, "ca")
	if _, err := ca.Start("devca", nil, w.program("devca"), "run", "--dir", caDir, "--dns", ca.Addr.String(), "--listen", ca.Addr.String()+":9000"); err != nil {
		return w, err
	}
	if err := os.WriteFile(w.path("patchbay.yaml"), []byte(w.config(ca, caDir)), 0o600); err != nil {
		return w, fmt.Errorf("control plane's configuration: %w", err)
	}
	if err := poll.Until(ctx, patience, func() error {
		_, err := os.Stat(filepath.Join(caDir, "fingerprint"))
		return err
	}); err != nil {
		return w, fmt.Errorf("the CA does not start: %w", err)
	}
	return w, w.startControl(ctx)
}

func (w *world) config(ca *lab.Host, caDir string) string {
	return fmt.Sprintf(`trustDomain: %s
namespaces: [%s]
createNamespaces: true
data: %s
registry: {listen: "127.0.0.1:18003"}
xds: {listen: "0.0.0.0:18000"}
agent: {listen: "0.0.0.0:18001"}
admin: {listen: "127.0.0.1:18002"}
issuers:
  default:
    stepCA:
      url: https://%s:9000
      fingerprintFile: %s
      provisioner: patchbay
      passwordFile: %s
      lifetime: %s
`, trustDomain, namespace, w.path("data"), ca.Addr, filepath.Join(caDir, "fingerprint"), filepath.Join(caDir, "provisioner-password"), leafLife)
}

// startControl runs the control plane and waits until it is ready.
func (w *world) startControl(ctx context.Context) error {
	var err error
	w.started = time.Now()
	if w.cloud == nil {
		w.serve, err = w.startReplica(ctx, w.control, "serve", "patchbay.yaml", nil)
		w.ready = time.Since(w.started)
		return err
	}
	if w.serve == nil || !w.serve.Running() {
		if w.serve, err = w.startReplica(ctx, w.control, "serve", "patchbay.yaml", w.keys()); err != nil {
			return err
		}
	}
	if w.cloud.replica == nil || !w.cloud.replica.Running() {
		if w.cloud.replica, err = w.startReplica(ctx, w.cloud.second, "serve-2", "patchbay-2.yaml", w.keys()); err != nil {
			return err
		}
	}
	w.ready = time.Since(w.started)
	return w.together(ctx)
}

// startReplica runs one control plane and waits until it is ready.
func (w *world) startReplica(ctx context.Context, h *lab.Host, name, config string, env []string) (*lab.Process, error) {
	p, err := h.Start(name, env, w.program("patchbay"), "serve", "--config", w.path(config))
	if err != nil {
		return nil, err
	}
	err = poll.Until(ctx, patience, func() error {
		if !p.Running() {
			return fmt.Errorf("the control plane ended:\n%s", p.Tail(10))
		}
		_, err := h.Output(ctx, "curl", "-sSf", "--max-time", "2", "http://127.0.0.1:18002/readyz")
		return err
	})
	if err != nil {
		return p, fmt.Errorf("the control plane does not become ready: %w\n%s", err, p.Tail(10))
	}
	return p, nil
}

func (w *world) path(name string) string    { return filepath.Join(w.Dir, name) }
func (w *world) program(name string) string { return filepath.Join(w.bin, name) }

// join makes the workload's join key, as an init service does in compose.
func (w *world) join(ctx context.Context, workload string, services []service) error {
	args := []string{w.program("patchbay"), "token", "join", "--data", w.path("data"), "--trust-domain", trustDomain,
		"--namespace", namespace, "--workload", workload, "--out", w.path("join-" + workload)}
	if w.cloud != nil {
		args = append(args, "--task-role")
	}
	for _, s := range services {
		args = append(args, "--discovery-name", s.name)
	}
	_, err := w.control.Output(ctx, args...)
	return err
}

// addTask starts an application and its sidecar in a namespace of their own.
// It does not wait for the sidecar.
func (w *world) addTask(ctx context.Context, name, workload string, last uint8, services []service) (*task, error) {
	if err := w.join(ctx, workload, services); err != nil {
		return nil, err
	}
	h, err := w.Add(ctx, name, last)
	if err != nil {
		return nil, err
	}
	t := &task{Host: h, workload: workload, state: w.path("state-" + name)}
	w.tasks[name] = t
	if t.app, err = h.Start(name+"-app", nil, append([]string{w.program("demoapp"), "serve", "--name", name}, listenFlags(services)...)...); err != nil {
		return nil, err
	}
	env, flags := []string(nil), []string{"--xds", w.control.Addr.String() + ":18000", "--agent", w.control.Addr.String() + ":18001", "--task", name}
	if w.cloud != nil {
		if env, flags, err = w.runTask(ctx, h, workload, services); err != nil {
			return nil, err
		}
	}
	t.agent, err = h.Start(name+"-sidecar", append(env, "PATCHBAY_SERVICE_CONNECT="+declaration(services)), append(append([]string{w.program("patchbay"), "sidecar"}, flags...),
		"--join", w.path("join-"+workload), "--state", t.state, "--wiring", "redirect",
		"--concurrency", "1", "--drain-time", "2s", "--envoy-uid", strconv.Itoa(envoyUID()))...)
	return t, err
}

// listenFlags makes the application listen on the ports of its services; one
// that offers none listens for http on 8080, as many do.
func listenFlags(services []service) []string {
	if len(services) == 0 {
		return []string{"--http", "0.0.0.0:8080"}
	}
	var flags []string
	for _, s := range services {
		flag := s.protocol
		if flag == "" {
			flag = "tcp"
		}
		flags = append(flags, "--"+flag, fmt.Sprintf("0.0.0.0:%d", s.port))
	}
	return flags
}

// waitReady waits until the task's sidecar says that it is ready.
func (w *world) waitReady(ctx context.Context, t *task) error {
	err := poll.Until(ctx, patience, func() error {
		if !t.agent.Running() {
			return fmt.Errorf("the sidecar of %s ended", t.Name)
		}
		_, err := t.Output(ctx, w.program("patchbay"), "sidecar", "health", "--registered", "--state", t.state)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, t.agent.Tail(12))
	}
	return nil
}

// act calls an action of the control plane's admin interface.
func (w *world) act(ctx context.Context, action string) (string, error) {
	return w.actOn(ctx, w.control, "data", action)
}

// actOn is act on one of several control planes.
func (w *world) actOn(ctx context.Context, h *lab.Host, data, action string) (string, error) {
	token, err := os.ReadFile(filepath.Join(w.path(data), "admin-token"))
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	return h.Output(ctx, "curl", "-sSf", "--max-time", "10", "-X", "POST",
		"-H", "Authorization: Bearer "+strings.TrimSpace(string(token)), "http://127.0.0.1:18002/api/v1/"+action)
}

// envoy asks the admin interface of the task's Envoy: a Unix socket in the
// state directory.
func (t *task) envoy(ctx context.Context, path string) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(t.state, "admin.sock"))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("Envoy of %s: %w", t.Name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// counter is one of Envoy's statistics; zero if Envoy has not counted it yet.
func (t *task) counter(ctx context.Context, name string) (int, error) {
	text, err := t.envoy(ctx, "/stats?filter=^"+strings.ReplaceAll(name, ".", `\.`)+"$")
	if err != nil {
		return 0, err
	}
	var n int
	if _, v, ok := strings.Cut(text, ": "); ok {
		fmt.Sscan(v, &n)
	}
	return n, nil
}

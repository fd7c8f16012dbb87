//go:build broken

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/admin/api"
	"patchbay/cmd/patchbay/operate"
	"patchbay/cmd/patchbay/tasks"
	"patchbay/config"
	"patchbay/diagnose"
	"patchbay/internal/envoytest"
)

// onEnvoys marks a script whose mesh breaks on real Envoys: it has a line so.
const onEnvoys = "# On real Envoys."

// TestBrokenMeshes makes every mesh of testdata/broken, each of which is broken
// in one known way, and wants the right code in the first place. The commands of
// these scripts are the methods of scene. Meshes have nothing in common, so that
// they are made side by side.
func TestBrokenMeshes(t *testing.T) {
	files, err := filepath.Glob("../../testdata/broken/*.txt")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d scripts (%v)", len(files), err)
	}
	for name, v := range map[string]string{"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"} {
		if err := os.Setenv(name, v); err != nil { //nolint:usetesting // t.Setenv forbids parallel tests
			t.Fatal(err)
		}
	}
	real := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), onEnvoys+"\n") {
			real++
		}
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			play(t, filepath.Base(f), string(text))
		})
	}
	if real < 10 {
		t.Errorf("only %d meshes break on real Envoys", real)
	}
}

func play(t *testing.T, file, text string) {
	s := &scene{t: t, ports: map[string]uint16{}, tasks: map[string]*member{}, apps: map[string]*httptest.Server{}}
	judged, n := 0, 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ := strings.Cut(line, "#")
		words := strings.Fields(os.Expand(line, func(service string) string { return fmt.Sprint(s.port(service)) }))
		if len(words) == 0 {
			continue
		}
		do, ok := scripted[words[0]]
		if !ok {
			t.Fatalf("%s:%d: there is no command %q", file, n, words[0])
		}
		if words[0] == "doctor" || words[0] == "explain" {
			judged++
		}
		begun := time.Now()
		do(s, words[1:])
		t.Logf("%s:%d: %s (%s)", file, n, strings.Join(words, " "), time.Since(begun).Round(time.Millisecond))
	}
	if judged == 0 {
		t.Fatalf("%s asks for no diagnosis", file)
	}
	if strings.Contains(text, onEnvoys+"\n") != (s.envoys > 0) {
		t.Errorf("%s runs %d Envoys; its mark says otherwise", file, s.envoys)
	}
}

// scene is a mesh that a script makes and breaks.
type scene struct {
	t        *testing.T
	p        *plane
	ports    map[string]uint16 // of each service: that of its alias
	tasks    map[string]*member
	apps     map[string]*httptest.Server
	ca       *cable
	registry *cable
	envoys   int // real ones, without counting those of clients alone
}

var scripted = map[string]func(*scene, []string){
	"mesh":     (*scene).mesh,
	"frontend": (*scene).frontend,
	"backend":  (*scene).backend,
	"impostor": (*scene).impostor,
	"bare":     (*scene).bare,
	"calls":    (*scene).calls,
	"stop-app": func(s *scene, w []string) { s.apps[w[0]].Close() },
	"stop":     func(s *scene, w []string) { s.tasks[w[0]].stop() },
	"freeze":   (*scene).freeze,
	"cut": func(s *scene, w []string) {
		map[string]*cable{"ca": s.ca, "registry": s.registry}[w[0]].answer("")
	},
	"registry-says": func(s *scene, w []string) { s.registry.answer(strings.Join(w, " ")) },
	"register":      (*scene).register,
	"knock":         (*scene).knock,
	"unregister":    (*scene).unregister,
	"doctor":        (*scene).doctor,
	"explain":       (*scene).explain,
	"alter":         (*scene).alter,
}

// port is that of a service's alias: $NAME in a script.
func (s *scene) port(service string) uint16 {
	if s.ports[service] == 0 {
		s.ports[service] = uint16(freePort(s.t))
	}
	return s.ports[service]
}

// mesh starts a control plane. Words: cloud-map (a registry of
// its own, behind a wire), long-lived (certificates are asked for that the CA
// does not sign).
func (s *scene) mesh(words []string) {
	tweak := func(c *config.Config) {
		ca := c.Issuers["default"].StepCA
		s.ca = newCable(s.t, strings.TrimPrefix(ca.URL, "https://"))
		ca.URL = "https://" + s.ca.addr
		for _, w := range words {
			switch w {
			case "cloud-map":
				behind := startPlane(s.t)
				s.registry = newCable(s.t, behind.cfg.Registry.Listen)
				c.Registry, c.CloudMap = nil, &config.CloudMap{Endpoint: "http://" + s.registry.addr, Region: "us-east-1"}
			case "long-lived":
				ca.Lifetime = 30 * 24 * time.Hour // the CA allows seven days
			}
		}
	}
	s.p = startPlane(s.t, tweak)
}

// task runs `patchbay sidecar`, a process of its own, with the real Envoy.
func (s *scene) task(name string, offers []string, declaration string) {
	t := s.t
	t.Helper()
	dir, err := os.MkdirTemp("", "sidecar") // Envoy runs under a user of its own, who must reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := &member{t: t, state: filepath.Join(dir, "state"), hosts: filepath.Join(dir, "hosts"), log: &lockedBuffer{}}
	if err := os.WriteFile(m.hosts, []byte("127.0.0.1 localhost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("patchbay", "sidecar", "--xds", s.p.cfg.XDS.Listen, "--agent", s.p.cfg.Agent.Listen, "--join", s.p.joinDir(name, offers...), "--task", name,
		"--state", m.state, "--hosts-file", m.hosts, "--wiring", "bind", "--drain-time", "1s", "--concurrency", "1", "--envoy", envoytest.Binary(t))
	c.Env = append(os.Environ(), tasks.DeclarationVar+"="+declaration)
	c.Stderr = m.log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	m.stop = sync.OnceValue(func() error {
		if err := c.Process.Signal(os.Interrupt); err != nil {
			return err
		}
		return <-done
	})
	t.Cleanup(func() {
		if err := m.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("sidecar of %s:\n%s", name, m.log)
		}
	})
	s.tasks[name] = m
	s.envoys++
}

// frontend is a client-only task. Words: uses=PORT (a container uses it).
func (s *scene) frontend(words []string) {
	declaration := clientOnly
	for _, w := range words {
		if port, ok := strings.CutPrefix(w, "uses="); ok {
			declaration = fmt.Sprintf(`{"serviceConnectConfiguration": {"enabled": true, "namespace": "demo"}, "portMappings": [{"containerPort": %s}]}`, port)
		}
	}
	s.task("frontend", nil, declaration)
}

// backend NAME is a task that offers the service NAME. Words: plain, busy (its
// ingress port is taken), offers=NAME (what its identity may offer),
// issuer=NAME, called=NAME and at=PORT (its alias), app=down|hangs|fails, timeout=SECONDS.
func (s *scene) backend(words []string) {
	name := words[0]
	offers, issuer, called, app, timeout := name, "default", name+".demo", "", ""
	ingress, at := freePort(s.t), fmt.Sprint(s.port(name))
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "plain":
			issuer = ""
		case "busy":
			taken, err := net.Listen("tcp", "0.0.0.0:0")
			if err != nil {
				s.t.Fatal(err)
			}
			s.t.Cleanup(func() { taken.Close() })
			ingress = taken.Addr().(*net.TCPAddr).Port
		case "offers":
			offers = value
		case "issuer":
			issuer = value
		case "called":
			called = value
		case "at":
			at = value
		case "app":
			app = value
		case "timeout":
			timeout = fmt.Sprintf(`"timeout": {"perRequestTimeoutSeconds": %s},`, value)
		}
	}
	tls := ""
	if issuer != "" {
		tls = fmt.Sprintf(`, "tls": {"issuerCertificateAuthority": {"awsPcaAuthorityArn": %q}}`, issuer)
	}
	s.task(name, []string{offers}, fmt.Sprintf(`{"serviceConnectConfiguration": {"enabled": true, "namespace": "demo", "services": [{
		"portName": "web", "discoveryName": %q, "ingressPortOverride": %d, %s "clientAliases": [{"port": %s, "dnsName": %q}]%s}]},
		"portMappings": [{"containerPort": %s}, {"name": "web", "containerPort": %d, "appProtocol": "http"}]}`, name, ingress, timeout, at, called, tls, at, s.app(name, app)))
}

func (s *scene) app(name, kind string) int {
	over := make(chan struct{})
	a := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch kind {
		case "hangs":
			<-over
		case "fails":
			http.Error(w, "no", http.StatusInternalServerError)
		default:
			io.WriteString(w, name)
		}
	}))
	s.t.Cleanup(a.Close)
	s.t.Cleanup(func() { close(over) }) // before: Close waits for what hangs
	s.apps[name] = a
	if kind == "down" {
		a.Close()
	}
	return a.Listener.Addr().(*net.TCPAddr).Port
}

// calls NAME waits until the frontend's application can call the service.
func (s *scene) calls(words []string) {
	s.tasks["frontend"].answers(words[0]+".demo", s.port(words[0]), words[0])
}

// knock NAME sends plain text to the ingress of a task until somebody has seen
// it.
func (s *scene) knock(words []string) {
	detail := api.ServiceDetail{}
	if err := json.Unmarshal(s.p.get("/api/v1/service?name="+words[0]+".demo"), &detail); err != nil {
		s.t.Fatal(err)
	}
	envoytest.Eventually(s.t, 20*time.Second, func() error {
		if resp, err := http.Get("http://" + detail.Instances[0].Address); err == nil { //nolint:noctx // a stranger is not careful
			s.t.Fatalf("the ingress takes plain text: %s", resp.Status)
		}
		var traffic api.Traffic
		if err := json.Unmarshal(s.p.get("/api/v1/traffic"), &traffic); err != nil {
			return err
		}
		for _, i := range traffic.Ingresses {
			if !i.Knocked.IsZero() {
				return nil
			}
		}
		return errors.New("nobody has noticed")
	})
}

// freeze NAME stops the task's Envoy with SIGSTOP.
func (s *scene) freeze(words []string) {
	state := s.tasks[words[0]].state
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		line, err := os.ReadFile(e)
		program, args, _ := strings.Cut(string(line), "\x00")
		if err != nil || filepath.Base(program) != "envoy" || !strings.Contains(args, state) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(e)))
		if err != nil {
			s.t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { syscall.Kill(pid, syscall.SIGCONT) })
		return
	}
	s.t.Fatalf("no Envoy of %s", words[0])
}

// register SERVICE KEY=VALUE… writes an instance into the registry by hand.
func (s *scene) register(words []string) {
	attributes := map[string]string{}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		attributes[key] = value
	}
	register(s.t, s.p.cfg.Registry.Listen, words[0], map[string]map[string]string{"i1": attributes})
}

// unregister SERVICE deletes a service whose tasks have stopped.
func (s *scene) unregister(words []string) {
	registry := servicediscovery.New(servicediscovery.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + s.p.cfg.Registry.Listen), Credentials: awscredentials.NewStaticCredentialsProvider("x", "y", ""),
	})
	envoytest.Eventually(s.t, 20*time.Second, func() error {
		all, err := registry.ListServices(s.t.Context(), &servicediscovery.ListServicesInput{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all.Services, func(v types.ServiceSummary) bool { return *v.Name == words[0] })
		if i < 0 {
			return fmt.Errorf("no service %s", words[0])
		}
		_, err = registry.DeleteService(s.t.Context(), &servicediscovery.DeleteServiceInput{Id: all.Services[i].Id})
		return err
	})
}

// alter FLAG VALUE changes how the commands that follow reach the control
// plane.
func (s *scene) alter(words []string) {
	if words[0] == "closed" { // nothing listens there
		s.p = &plane{t: s.t, cfg: s.p.cfg}
		s.p.cfg.Data = s.t.TempDir()
	}
}

// doctor CODE SUBJECT… waits until the first finding is this one. doctor
// healthy CODE… waits until there is none, and in between sees none of these.
func (s *scene) doctor(words []string) {
	s.t.Helper()
	subject := strings.Join(words[1:], " ")
	envoytest.Eventually(s.t, 45*time.Second, func() error {
		out, exit := s.p.command("doctor", "-o", "json")
		var got operate.DoctorOutput
		if err := json.NewDecoder(strings.NewReader(out)).Decode(&got); err != nil {
			return fmt.Errorf("%w:\n%s", err, out)
		}
		if words[0] == "healthy" {
			for _, f := range got.Findings {
				if slices.Contains(words[1:], f.Code) {
					s.t.Fatalf("it is healthy: %s", findings(got.Findings))
				}
			}
			if exit != exitDone || len(got.Findings) > 0 {
				return fmt.Errorf("exit code %d, %s", exit, findings(got.Findings))
			}
			return nil
		}
		if exit != exitProblems || got.Findings[0].Code != words[0] || !strings.Contains(got.Findings[0].Subject, subject) {
			return fmt.Errorf("want %s, got %s", words, findings(got.Findings))
		}
		return nil
	})
}

func findings(all []diagnose.Finding) string {
	var out strings.Builder
	for _, f := range all {
		fmt.Fprintf(&out, "\n%s %s: %s %q", f.Code, f.Subject, f.Cause, f.Evidence)
	}
	return out.String()
}

// explain CLIENT URL CODE [--live] waits until the call is explained so.
func (s *scene) explain(words []string) {
	s.t.Helper()
	args := append([]string{"explain", words[0], words[1], "-o", "json"}, words[3:]...)
	envoytest.Eventually(s.t, 45*time.Second, func() error {
		out, _ := s.p.command(args...)
		var got operate.ExplainOutput
		if err := json.NewDecoder(strings.NewReader(out)).Decode(&got); err != nil {
			return fmt.Errorf("%w:\n%s", err, out)
		}
		switch {
		case words[2] == "fine" && got.Finding == nil:
			return nil
		case got.Finding == nil || got.Finding.Code != words[2]:
			return fmt.Errorf("want %s, got\n%s", words[2], out)
		}
		return nil
	})
}

// cable carries connections to an address, until it is cut or answers by itself.
type cable struct {
	addr string
	l    net.Listener
	done chan struct{}
	t    *testing.T
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", freePort(t))) // it may be opened again
	if err != nil {
		t.Fatal(err)
	}
	w := &cable{l.Addr().String(), l, make(chan struct{}), t}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.carry(c, to)
		}
	}()
	return w
}

func (w *cable) carry(c net.Conn, to string) {
	defer c.Close()
	d, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer d.Close()
	over := make(chan struct{}, 2)
	go func() { io.Copy(c, d); over <- struct{}{} }()
	go func() { io.Copy(d, c); over <- struct{}{} }()
	select {
	case <-over:
	case <-w.done:
	}
}

// answer cuts the wire; with words, every call is answered with this AWS error
// from then on.
func (w *cable) answer(words string) {
	w.l.Close()
	close(w.done)
	if words == "" {
		return
	}
	l, err := net.Listen("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	kind, text, _ := strings.Cut(words, " ")
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/x-amz-json-1.1")
		rw.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(rw, `{"__type": %q, "message": %q}`, kind, text)
	})}
	go s.Serve(l)
	w.t.Cleanup(func() { s.Close() })
}

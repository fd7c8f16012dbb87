package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/config"
	"patchbay/identity/registered"
	"patchbay/internal/envoytest"
	"patchbay/internal/etcdtest"
)

// replicaProcess is `patchbay serve` in a process of its own, which can be
// killed.
type replicaProcess struct {
	cmd               *exec.Cmd
	xds, agent, admin string
	data              string
}

// serveOn starts one whose registry and secrets are in an etcd cluster.
func serveOn(t *testing.T, c *etcdtest.Cluster, name, sealKey, identities string) *replicaProcess {
	t.Helper()
	dir := t.TempDir()
	port := func() string { return fmt.Sprintf("127.0.0.1:%d", freePort(t)) }
	r := &replicaProcess{xds: port(), agent: port(), admin: port(), data: filepath.Join(dir, "data")}
	if err := os.Mkdir(r.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(identities, registered.Dir(r.data)); err != nil {
		t.Fatal(err)
	}
	cert, key := c.Certificate("patchbay")
	etcd := fmt.Sprintf("{endpoints: [%s], caFile: %s, certFile: %s, keyFile: %s}", strings.Join(c.Endpoints(), ", "), c.CAFile, cert, key)
	text := fmt.Sprintf(`trustDomain: %s
namespaces: [demo]
createNamespaces: true
data: %s
registry: {listen: %q, etcd: %s}
secrets: {etcd: %s, sealKeyFile: %s}
replicas: {listen: %q}
xds: {listen: %q}
agent: {listen: %q}
admin: {listen: %q}
`, testDomain, r.data, port(), etcd, etcd, sealKey, port(), r.xds, r.agent, r.admin)
	file := filepath.Join(dir, "patchbay.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	r.cmd = exec.Command("patchbay", "serve", "--config", file)
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", name, log)
		}
	})
	return r
}

// ready waits until a replica can serve.
func (r *replicaProcess) ready(t *testing.T) {
	t.Helper()
	envoytest.Eventually(t, 30*time.Second, func() error {
		resp, err := http.Get("http://" + r.admin + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", resp.Status)
		}
		return nil
	})
}

// kill ends it at once.
func (r *replicaProcess) kill() {
	if r.cmd.ProcessState == nil {
		_ = r.cmd.Process.Kill() // it has ended already if this fails
		_ = r.cmd.Wait()
	}
}

// TestNothingHangsOnOneMachine: two control planes as processes, whose state is
// in three members of etcd with TLS and users, and sidecars that know both. The
// control plane that they use is killed, then etcd's leader: no call fails, and
// each time a new service still comes in and is called.
func TestNothingHangsOnOneMachine(t *testing.T) {
	c := etcdtest.StartCluster(t)
	c.Restrict("patchbay", "unused", "/patchbay/")
	shared := t.TempDir()
	sealKey, identities := filepath.Join(shared, "seal.key"), filepath.Join(shared, "identities")
	if err := os.Mkdir(identities, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sealKey, []byte("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := serveOn(t, c, "a", sealKey, identities)
	a.ready(t)
	b := serveOn(t, c, "b", sealKey, identities)
	b.ready(t)
	// What a sidecar is told: both, the one that will be killed first.
	p := &plane{t: t, cfg: config.Config{Data: a.data, XDS: config.XDS{Listen: a.xds + "," + b.xds}, Agent: config.Agent{Listen: a.agent + "," + b.agent}}}
	_, hello := listen(t, "hello")
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	front.until(serving)
	offer := func(name string) uint16 {
		alias := uint16(freePort(t))
		p.sidecar(p.joinDir(name, name), name, strings.Replace(declares(name, hello, uint16(freePort(t)), alias), `,
		"tls": {"issuerCertificateAuthority": {"awsPcaAuthorityArn": "default"}}`, "", 1)).until(serving)
		return alias
	}
	first := offer("first")
	front.answers("first.demo", first, "hello")
	var sent, failed atomic.Int32
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			sent.Add(1)
			if got, err := front.get("first.demo", first); err != nil || got != "hello" {
				failed.Add(1)
				t.Logf("%q, %v", got, err)
			}
		}
	}()
	other := &plane{t: t, cfg: config.Config{Admin: config.Admin{Listen: b.admin}}}
	envoytest.Eventually(t, 10*time.Second, func() error {
		if n := other.endpoints(); n != 1 {
			return fmt.Errorf("the other control plane knows %v endpoints", n)
		}
		return nil
	})
	a.kill()
	front.answers("second.demo", offer("second"), "hello")
	c.Leader().Kill()
	front.answers("third.demo", offer("third"), "hello")
	close(stop)
	<-stopped
	if sent.Load() < 50 || failed.Load() != 0 {
		t.Errorf("%d of %d calls failed", failed.Load(), sent.Load())
	}
}

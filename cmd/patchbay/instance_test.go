package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"patchbay/audit"
	"patchbay/cmd/patchbay/tasks"
	"patchbay/config"
	"patchbay/internal/awsfake/ec2"
	"patchbay/internal/awsfake/imds"
	"patchbay/internal/awsfake/sts"
	"patchbay/internal/awsfake/wire"
	"patchbay/internal/envoytest"
)

const (
	machineID      = "i-0123456789abcdef0"
	machineProfile = "arn:aws:iam::111122223333:instance-profile/backend"
)

// listen is an address inside the machine's network namespace.
func (m *machine) listen(addr string) net.Listener {
	m.t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		ns, err := os.Open("/run/netns/" + m.ns)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			done <- result{nil, err}
			return
		}
		l, err := new(net.ListenConfig).Listen(m.t.Context(), "tcp", addr)
		done <- result{l, err}
	}()
	r := <-done
	if r.err != nil {
		m.t.Fatal(r.err)
	}
	return r.l
}

// serveAt serves until the test ends.
func serveAt(t *testing.T, l net.Listener, h http.Handler) {
	t.Helper()
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go s.Serve(l) //nolint:errcheck // it is closed
	t.Cleanup(func() { s.Close() })
}

// metadata is IMDSv2 at its own address on the machine.
func (m *machine) metadata(i imds.Instance) {
	m.t.Helper()
	m.run("ip", "-n", m.ns, "addr", "add", "169.254.169.254/32", "dev", "lo")
	serveAt(m.t, m.listen("169.254.169.254:80"), imds.New(i))
}

// aws is STS and EC2, with the machine as one of its instances.
func (m *machine) aws() (*ec2.EC2, string) {
	m.t.Helper()
	e := ec2.New()
	s := wire.New(wire.Options{Region: "eu-west-1", Principals: map[string]wire.Principal{"role": {Secret: "secret", ARN: "arn:aws:sts::111122223333:assumed-role/patchbay/1"}}}, sts.API(), e.API())
	s.Grant("ASIAMACHINE", wire.Principal{Secret: "machine", Token: "session", Account: "111122223333", ARN: "arn:aws:sts::111122223333:assumed-role/backend/" + machineID})
	e.Put(ec2.Instance{ID: machineID, Profile: machineProfile, Addresses: []string{m.addr}})
	l, err := new(net.ListenConfig).Listen(m.t.Context(), "tcp", m.ours+":0")
	if err != nil {
		m.t.Fatal(err)
	}
	serveAt(m.t, l, s)
	return e, "http://" + l.Addr().String()
}

// withInstances lets instances of the role backend join.
func withInstances(url string) func(*config.Config) {
	return func(c *config.Config) {
		c.Identities.InstanceRoles = &config.InstanceRoles{Region: "eu-west-1", STSEndpoint: url, EC2Endpoint: url, Workloads: []config.InstanceRole{{
			Namespace: "demo", Workload: "backend", DiscoveryNames: []string{"backend"}, Role: "arn:aws:iam::111122223333:role/backend",
		}}}
	}
}

// TestInstanceJoinsByItsRole: a machine without any secret of ours, which knows
// neither its name nor its region, asks the metadata service, proves its role,
// and is in the mesh as one that had a join key: called by name, with its zone.
// Terminated, it does not come in again.
func TestInstanceJoinsByItsRole(t *testing.T) {
	m := newMachine(t)
	fleet, url := m.aws()
	environ := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") })
	for name, v := range map[string]string{"AWS_ACCESS_KEY_ID": "role", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, v)
	}
	p := startPlane(t, m.listens, withInstances(url))
	m.metadata(imds.Instance{
		ID: machineID, Account: "111122223333", Address: m.addr, Region: "eu-west-1", Zone: "eu-west-1b", ZoneID: "euw1-az2",
		Role: "backend", KeyID: "ASIAMACHINE", Secret: "machine", Token: "session",
	})
	m.install(p, p.joinByRole("--instance-role"))
	m.app()
	environ = append(environ, "AWS_ENDPOINT_URL_STS="+url, "HOME="+m.dir)
	agent, log := m.sidecar(environ)
	s := m.member().until(serving)
	if s.Node != "demo/backend/"+machineID || !strings.HasPrefix(s.Ports[0].InstanceID, machineID+".") {
		t.Errorf("%+v", s)
	}
	m.calls()
	p.adminSays("/api/v1/status", "euw1-az2")
	m.users(agent.Process.Pid)
	text, err := os.ReadFile(audit.File(p.cfg.Data))
	if err != nil || !strings.Contains(string(text), `"method":"iam"`) {
		t.Errorf("audit log: %v\n%s", err, text)
	}
	m.end(agent, log)
	fleet.Put(ec2.Instance{ID: machineID, State: "shutting-down", Profile: machineProfile, Addresses: []string{m.addr}})
	_, log = m.sidecar(environ)
	envoytest.Eventually(t, 20*time.Second, func() error {
		if !strings.Contains(log.String(), `is \"shutting-down\"; allowed: one that is pending or running`) {
			return fmt.Errorf("no refusal:\n%s", log)
		}
		return nil
	})
}

// TestInstancesName: where it joins by its role, the instance's id is its name,
// and no other.
func TestInstancesName(t *testing.T) {
	h := httptest.NewServer(imds.New(imds.Instance{ID: machineID}))
	t.Cleanup(h.Close)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", h.URL)
	p := &plane{t: t, cfg: config.Config{Data: t.TempDir()}}
	t.Setenv(tasks.DeclarationVar, clientOnly)
	root, out := newRoot(), &bytes.Buffer{}
	root.SetArgs([]string{"sidecar", "--xds", "c:1", "--agent", "c:2", "--join", p.joinByRole("--instance-role"), "--task", "web-1", "--state", t.TempDir()})
	root.SetErr(out)
	if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), `task: "web-1"; allowed: `+machineID) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestOneCallOfEC2IsLinked: a client of EC2 that becomes an interface brings all
// of its operations into every sidecar.
func TestOneCallOfEC2IsLinked(t *testing.T) {
	program, err := exec.LookPath("patchbay")
	if err != nil {
		t.Fatal(err)
	}
	if program, err = filepath.EvalSymlinks(program); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for operation, want := range map[string]bool{"DescribeInstances": true, "RunInstances": false} {
		if got := bytes.Contains(text, []byte("ec2.(*Client)."+operation)); got != want {
			t.Errorf("%s is in the program: %v", operation, got)
		}
	}
}

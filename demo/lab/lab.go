// Package lab is a set of network namespaces on one bridge, in which each is a
// machine of its own, and the programs that run there.
//
// It must not know what these are. Start reading at [New].
package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// network is the subnet that the lab's namespaces share. It exists inside
// them only; nothing on the machine can reach it.
var network = netip.MustParsePrefix("10.89.0.0/24")

// Lab is a set of network namespaces on one bridge. The bridge has a
// namespace of its own: in the machine's, the firewall of a Docker daemon
// would drop what crosses it. Not safe for concurrent use, except host.exec.
type Lab struct {
	prefix string // of the names of all namespaces: "pb<pid>-"
	Dir    string // for hosts files and logs of processes
	Hosts  map[string]*Host

	mu    sync.Mutex
	procs []*Process
}

// Host is one namespace: a task, or a machine outside the mesh.
type Host struct {
	lab       *Lab
	Name      string
	ns        string
	Addr      netip.Addr
	HostsFile string // the file that is /etc/hosts inside
}

// ErrNotHere is wrapped when this machine can't run the demo.
var ErrNotHere = errors.New("not possible here")

// New makes the switch. It first removes what a killed demo left behind.
func New(ctx context.Context, dir string) (*Lab, error) {
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, fmt.Errorf("%w: the program `ip` is missing: apt-get install iproute2, or use `make demo`, which does", ErrNotHere)
	}
	l := &Lab{prefix: "pb" + strconv.Itoa(os.Getpid()) + "-", Dir: dir, Hosts: map[string]*Host{}}
	removeStale(ctx)
	sw := l.prefix + "switch"
	return l, ip(ctx, "netns add "+sw, "-n "+sw+" link add br0 type bridge", "-n "+sw+" link set br0 up")
}

// ip runs each line as arguments of ip(8).
func ip(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// Add makes a namespace with the address 10.89.0.last and a hosts file of its
// own, as a container has.
func (l *Lab) Add(ctx context.Context, name string, last uint8) (*Host, error) {
	a4 := network.Addr().As4()
	a4[3] = last
	h := &Host{lab: l, Name: name, ns: l.prefix + name, Addr: netip.AddrFrom4(a4), HostsFile: filepath.Join(l.Dir, "hosts-"+name)}
	if err := os.WriteFile(h.HostsFile, fmt.Appendf(nil, "127.0.0.1 localhost\n%s %s\n", h.Addr, name), 0o644); err != nil { //nolint:gosec // a hosts file is for all to read
		return nil, fmt.Errorf("hosts file of %s: %w", name, err)
	}
	sw, veth := l.prefix+"switch", "v"+strconv.Itoa(int(last))
	l.Hosts[name] = h
	return h, ip(ctx,
		"netns add "+h.ns,
		"-n "+h.ns+" link set lo up",
		"-n "+sw+" link add "+veth+" type veth peer name eth0 netns "+h.ns,
		"-n "+sw+" link set "+veth+" master br0 up",
		fmt.Sprintf("-n %s addr add %s/%d dev eth0", h.ns, h.Addr, network.Bits()),
		"-n "+h.ns+" link set eth0 up")
}

// inside are the arguments of ip(8) that run a program in h, with h's hosts
// file as /etc/hosts. ip gives it a mount namespace of its own, so the machine
// sees nothing of the mount; sh and ip are replaced by the program.
func (h *Host) inside(args []string) []string {
	return append([]string{"netns", "exec", h.ns, "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, h.HostsFile}, args...)
}

// Command is a program that will run in h.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "ip", h.inside(args)...)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 10 * time.Second
	return c
}

// Output runs a short program in h and returns what it prints on both
// outputs, trimmed.
func (h *Host) Output(ctx context.Context, args ...string) (string, error) {
	out, err := h.Command(ctx, args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("%s in %s: %w: %s", args[0], h.Name, err, text)
	}
	return text, nil
}

// Process is a long-running program of the lab.
type Process struct {
	name string
	Log  string // file of its output
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // valid after done
}

// Start runs a program in h until it is stopped. Its output goes to a log
// file in the lab's directory.
func (h *Host) Start(name string, env []string, args ...string) (*Process, error) {
	path := filepath.Join(h.lab.Dir, name+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	cmd := exec.Command("ip", h.inside(args)...) //nolint:noctx // it ends by stop, in order, not with a context
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	// Ctrl-C of the terminal must reach us alone: we stop the rest in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{name: name, Log: path, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	h.lab.procs = append(h.lab.procs, p)
	return p, nil
}

// Stop sends SIGTERM, waits up to limit, then kills.
func (p *Process) Stop(limit time.Duration) {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(limit):
		p.Kill()
	}
}

// Kill is kill -9 of the program and what it started.
func (p *Process) Kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// Running reports whether p has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Tail is the end of p's log, for error messages.
func (p *Process) Tail(lines int) string {
	b, _ := os.ReadFile(p.Log)
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Memory is the resident memory of p itself in bytes, and the part of it that
// is backed by no file.
func (p *Process) Memory() (resident, own float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for line := range strings.Lines(string(b)) {
		for key, to := range map[string]*float64{"VmRSS:": &resident, "RssAnon:": &own} {
			if v, ok := strings.CutPrefix(line, key); ok {
				kb, _ := strconv.Atoi(strings.Fields(v)[0])
				*to = float64(kb) * 1024
			}
		}
	}
	return resident, own, err
}

// Close stops every process, last started first, and removes the namespaces.
func (l *Lab) Close() {
	l.mu.Lock()
	procs := l.procs
	l.procs = nil
	l.mu.Unlock()
	var all sync.WaitGroup
	for _, p := range procs {
		all.Go(func() { p.Stop(8 * time.Second) })
	}
	all.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	removeNamespaces(ctx, l.prefix)
}

// removeStale removes what demos left whose process is gone.
func removeStale(ctx context.Context) {
	entries, _ := os.ReadDir("/run/netns")
	for _, e := range entries {
		pid, _, ok := strings.Cut(strings.TrimPrefix(e.Name(), "pb"), "-")
		n, err := strconv.Atoi(pid)
		if !ok || err != nil || !strings.HasPrefix(e.Name(), "pb") || syscall.Kill(n, 0) == nil {
			continue
		}
		removeNamespaces(ctx, "pb"+pid+"-")
	}
}

// removeNamespaces ends what still runs in the namespaces of one demo, and
// deletes them.
func removeNamespaces(ctx context.Context, prefix string) {
	entries, _ := os.ReadDir("/run/netns")
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		out, _ := exec.CommandContext(ctx, "ip", "netns", "pids", e.Name()).Output()
		for pid := range strings.FieldsSeq(string(out)) {
			if n, err := strconv.Atoi(pid); err == nil {
				syscall.Kill(n, syscall.SIGKILL)
			}
		}
		exec.CommandContext(ctx, "ip", "netns", "del", e.Name()).Run()
	}
}

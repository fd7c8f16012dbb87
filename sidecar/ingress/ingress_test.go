package ingress

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"patchbay/declare"
	"patchbay/internal/envoytest"
)

func port(name string, number uint16) declare.Port {
	return declare.Port{PortName: name, IngressPort: number}
}

// shared is a listener as Envoy has them by default: whoever asks may share it.
func shared(network, address string) (net.Listener, error) {
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }), err)
	}}
	return c.Listen(context.Background(), network, address)
}

// claims is one Take in a namespace, and what was said while it waited.
type claims struct {
	*Ports
	err    error
	waited []string
}

// never is too long for a test to wait, and hardly is not.
var (
	never  = limits{time.Hour, time.Hour}
	hardly = limits{10 * time.Millisecond, 10 * time.Millisecond}
)

// in is a Take with limits of its own; free is called when it waits.
func in(t *testing.T, ns string, l limits, free func(), ports ...declare.Port) (c claims) {
	t.Helper()
	envoytest.In(t, ns, func() error {
		c.Ports, c.err = take(t.Context(), l, ports, "stock, state \"/s\"\nand more", func(why error) {
			c.waited = append(c.waited, why.Error())
			free()
		})
		return nil
	})
	t.Cleanup(c.Release)
	return c
}

func nothing() {}

// TestTwoSidecarsHaveNoPortInCommon: the second hears which port the first has,
// and how to go on; it has none then, and the first's become free with it.
func TestTwoSidecarsHaveNoPortInCommon(t *testing.T) {
	ns := envoytest.Netns(t)
	first := in(t, ns, never, nothing, port("web", 15010), port("rpc", 15011))
	if first.err != nil || first.Busy() != nil || first.waited != nil {
		t.Fatalf("%v %v %q", first.err, first.Busy(), first.waited)
	}
	second := in(t, ns, hardly, nothing, port("a", 15009), port("b", 15010), port("c", 15011))
	if second.err == nil || len(second.waited) != 1 || second.Ports != nil {
		t.Fatalf("%v; %q", second.err, second.waited)
	}
	for _, want := range []string{"ingress port 15010 of b: another sidecar", "ingress port 15011 of c: another sidecar", `has it (stock, state \"/s\"\nand more)`, "ingressPortOverride"} {
		if !strings.Contains(second.err.Error(), want) {
			t.Errorf("%v\nlacks %q", second.err, want)
		}
	}
	if third := in(t, ns, hardly, nothing, port("a", 15009)); third.err != nil {
		t.Errorf("the second kept a port: %v", third.err)
	}
	if next := in(t, ns, never, first.Release, port("b", 15010), port("c", 15011)); next.err != nil || next.Busy() != nil || len(next.waited) != 1 {
		t.Errorf("after the first has ended: %v %v %q", next.err, next.Busy(), next.waited)
	}
}

// TestWhatElseListens is found in either family and at any address, also when it
// would share, and when the socket was opened for IPv6 alone.
func TestWhatElseListens(t *testing.T) {
	for _, at := range [][2]string{{"tcp4", "0.0.0.0"}, {"tcp", "[::]"}, {"tcp6", "[::]"}, {"tcp4", "127.0.0.1"}, {"tcp6", "[::1]"}} {
		t.Run(strings.Join(at[:], " "), func(t *testing.T) {
			ns := envoytest.Netns(t)
			var other net.Listener
			envoytest.In(t, ns, func() (err error) { other, err = shared(at[0], at[1]+":15010"); return err })
			p := in(t, ns, hardly, nothing, port("web", 15010), port("free", 15011))
			if p.err != nil || len(p.waited) != 1 || p.Busy() == nil {
				t.Fatalf("%v %v; %q", p.err, p.Busy(), p.waited)
			}
			if s := p.Busy().Error(); !strings.Contains(s, "15010 of web: another process") || strings.Contains(s, "15011") {
				t.Error(s)
			}
			p.Release()
			if p = in(t, ns, never, func() { other.Close() }, port("web", 15010)); p.err != nil || p.Busy() != nil || len(p.waited) != 1 {
				t.Errorf("after it has ended: %v %v %q", p.err, p.Busy(), p.waited)
			}
		})
	}
}

// TestKilledAndBack: what a process claimed that is killed is free, and so is its
// port.
func TestKilledAndBack(t *testing.T) {
	if ns := os.Getenv("PATCHBAY_TEST_CHILD"); ns != "" {
		envoytest.In(t, ns, func() error {
			_, err := Take(t.Context(), []declare.Port{port("web", 15010)}, "child", func(error) {})
			return err
		})
		envoytest.In(t, ns, func() error { _, err := shared("tcp", "[::]:15010"); return err })
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin)
		return
	}
	ns := envoytest.Netns(t)
	child := exec.Command(os.Args[0], "-test.run=^TestKilledAndBack$")
	child.Env = append(os.Environ(), "PATCHBAY_TEST_CHILD="+ns)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Errorf("%q, %v", line, err)
	}
	var p *Ports
	var said string
	envoytest.In(t, ns, func() error {
		p, err = take(t.Context(), never, []declare.Port{port("web", 15010)}, "next", func(why error) {
			if said == "" {
				said = why.Error()
			}
			child.Process.Kill()
		})
		return err
	})
	defer p.Release()
	child.Wait()
	if p.Busy() != nil || !strings.Contains(said, "another sidecar of this network namespace has it (child)") {
		t.Errorf("%v, after %q", p.Busy(), said)
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	ns := envoytest.Netns(t)
	if first := in(t, ns, never, nothing, port("web", 15010)); first.err != nil {
		t.Fatal(first.err)
	}
	stopped := errors.New("stopped")
	ctx, stop := context.WithCancelCause(t.Context())
	var err error
	envoytest.In(t, ns, func() error {
		_, err = take(ctx, never, []declare.Port{port("web", 15010)}, "", func(error) { stop(stopped) })
		return nil
	})
	if !errors.Is(err, stopped) {
		t.Error(err)
	}
}

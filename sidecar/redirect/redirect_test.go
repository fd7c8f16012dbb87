package redirect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace runs f on a thread that is alone in a new network namespace,
// which ends with the thread.
func inNamespace(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = command("ip", "link", "set", "lo", "up")
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func command(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}

func rules() (string, error) {
	out, err := exec.Command("nft", "-nn", "list", "ruleset").CombinedOutput()
	return string(out), err
}

var rule = Rule{VIPs: netip.MustParsePrefix("127.128.0.0/10"), Port: 15001}

func TestInstallIsIdempotentAndTouchesNothingElse(t *testing.T) {
	inNamespace(t, func() error {
		if err := command("nft", "add table ip theirs; add chain ip theirs c; add rule ip theirs c accept"); err != nil {
			return err
		}
		alone, err := rules()
		if err != nil {
			return err
		}
		first, err := Install(rule)
		if err != nil {
			return err
		}
		one, err := rules()
		if err != nil {
			return err
		}
		if !strings.Contains(one, "ip daddr 127.128.0.0/10") || !strings.Contains(one, "redirect to :15001") {
			return fmt.Errorf("rules: %s", one)
		}
		second, err := Install(rule)
		if err != nil {
			return err
		}
		if two, _ := rules(); two != one {
			return fmt.Errorf("a second install changed\n%s\nto\n%s", one, two)
		}
		if err := second.Remove(); err != nil {
			return err
		}
		if left, _ := rules(); left != one {
			return fmt.Errorf("the second, which found a table, removed it: %s", left)
		}
		if err := first.Remove(); err != nil {
			return err
		}
		if left, _ := rules(); left != alone {
			return fmt.Errorf("left behind: %s", left)
		}
		return first.Remove()
	})
}

// A connection to a VIP arrives at the listener, with its original
// destination; any other is untouched. Envoy's own to a VIP arrives nowhere.
func TestConnectionsArrive(t *testing.T) {
	inNamespace(t, func() error {
		own := rule
		own.Own = 50
		if _, err := Install(own); err != nil {
			return err
		}
		egress, err := listen("127.0.0.1:15001", "egress")
		if err != nil {
			return err
		}
		defer egress.Close()
		app, err := listen("0.0.0.0:8080", "app")
		if err != nil {
			return err
		}
		defer app.Close()
		for addr, want := range map[string]string{
			"127.128.1.1:8080": "egress", "127.191.255.254:1": "egress",
			"127.0.0.1:8080": "app", "127.127.0.1:8080": "app", "127.192.0.1:8080": "app",
		} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return fmt.Errorf("%s: %w", addr, err)
			}
			got, err := io.ReadAll(c)
			c.Close()
			if err != nil || string(got) != want {
				return fmt.Errorf("%s was answered by %q (%v), want %q", addr, got, err, want)
			}
		}
		envoys := &net.Dialer{Timeout: 200 * time.Millisecond, Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 50) })
		}}
		if c, err := envoys.Dial("tcp", "127.128.1.1:8080"); err == nil {
			c.Close()
			return errors.New("Envoy has called itself")
		}
		if all, err := rules(); err != nil {
			return err
		} else if !regexp.MustCompile(`ip ttl 50 counter packets [1-9].* drop`).MatchString(all) {
			return fmt.Errorf("nothing was dropped: %s", all)
		}
		envoys.Timeout = time.Minute
		c, err := envoys.Dial("tcp", "127.0.0.1:8080")
		if err != nil {
			return fmt.Errorf("what is no VIP: %w", err)
		}
		return c.Close()
	})
}

// listen answers every connection with its name. It listens on the calling
// thread's namespace; accepting may happen anywhere.
func listen(addr, name string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, name)
			c.Close()
		}
	}()
	return l, nil
}

func TestWithoutNetAdmin(t *testing.T) {
	if os.Getenv("PATCHBAY_TEST_CHILD") == "" {
		cmd := exec.Command("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", os.Args[0], "-test.run=^TestWithoutNetAdmin$")
		cmd.Env = append(os.Environ(), "PATCHBAY_TEST_CHILD=1")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var said string
		if err := json.Unmarshal(out[:strings.IndexByte(string(out), '\n')], &said); err != nil || !strings.Contains(said, "NET_ADMIN") {
			t.Fatalf("%s (%v)", out, err)
		}
		return
	}
	_, err := Install(rule)
	json.NewEncoder(os.Stdout).Encode(fmt.Sprint(err))
}

// What an installer left that was killed belongs to the next one.
func TestRuleOfAKilledInstallerIsRemoved(t *testing.T) {
	inNamespace(t, func() error {
		alone, err := rules()
		if err != nil {
			return err
		}
		killed := exec.Command("/proc/self/exe", "-test.run=^TestInstallerThatIsKilled$")
		killed.Env = append(os.Environ(), "PATCHBAY_TEST_CHILD=1")
		if out, err := killed.CombinedOutput(); err == nil {
			return fmt.Errorf("it was not killed: %s", out)
		}
		if left, err := rules(); err != nil || !strings.Contains(left, "redirect to :15001") {
			return fmt.Errorf("rules after the kill: %s (%v)", left, err)
		}
		next, err := Install(rule)
		if err != nil {
			return err
		}
		if err := next.Remove(); err != nil {
			return err
		}
		if left, _ := rules(); left != alone {
			return fmt.Errorf("left behind: %s", left)
		}
		return nil
	})
}

func TestInstallerThatIsKilled(t *testing.T) {
	if os.Getenv("PATCHBAY_TEST_CHILD") == "" {
		t.Skip("a part of the test above")
	}
	if _, err := Install(rule); err != nil {
		t.Fatal(err)
	}
	unix.Kill(os.Getpid(), unix.SIGKILL)
}

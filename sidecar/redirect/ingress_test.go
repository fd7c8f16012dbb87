package redirect

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"patchbay/internal/envoytest"
)

// pair is a task's network namespace and one outside, with an address of each
// family at both ends: 192.0.2.1 and 2001:db8::1 are the task's.
func pair(t *testing.T) (task, outside string) {
	t.Helper()
	task, outside = envoytest.Netns(t), envoytest.Netns(t)
	envoytest.Run(t, "ip", "link", "add", "pb0", "netns", task, "type", "veth", "peer", "name", "pb0", "netns", outside)
	for ns, host := range map[string]string{task: "1", outside: "2"} {
		envoytest.Run(t, "ip", "-n", ns, "addr", "add", "192.0.2."+host+"/24", "dev", "pb0")
		envoytest.Run(t, "ip", "-n", ns, "addr", "add", "2001:db8::"+host+"/64", "dev", "pb0", "nodad")
		envoytest.Run(t, "ip", "-n", ns, "link", "set", "pb0", "up")
	}
	return task, outside
}

// serve has the task's application, its Envoy and a port of no interest, each
// of which answers with its name.
func serve(t *testing.T, task string) {
	t.Helper()
	envoytest.In(t, task, func() error {
		for at, says := range map[string]string{":8080": "app", ":9090": "other", ":15010": "ingress", "127.0.0.1:15001": "egress"} {
			l, err := listen(at, says)
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
		}
		return nil
	})
}

// heard is who answers; "nobody" if the connection is refused.
func heard(t *testing.T, from, to string) (who string) {
	t.Helper()
	envoytest.In(t, from, func() error {
		c, err := net.DialTimeout("tcp", to, 30*time.Second)
		if errors.Is(err, syscall.ECONNREFUSED) {
			who = "nobody"
			return nil
		}
		if err != nil {
			return err
		}
		defer c.Close()
		b, err := io.ReadAll(c)
		who = string(b)
		return err
	})
	return who
}

func intercepting() Rule {
	r := rule
	r.Ingress, r.IPv6 = map[uint16]uint16{8080: 15010}, true
	return r
}

func install(t *testing.T, ns string, r Rule) (i *Installed) {
	t.Helper()
	envoytest.In(t, ns, func() (err error) { i, err = Install(r); return err })
	if i.NoIPv6 != nil {
		t.Fatalf("nothing of IPv6: %v", i.NoIPv6)
	}
	return i
}

// What connections meet, by family and by whence they come, is the same with
// our rules as with those that ECS writes with iptables.
func TestTheRulesAreThoseOfECS(t *testing.T) {
	ecs := func(t *testing.T, ns string) {
		t.Helper()
		for _, iptables := range []string{"iptables-nft", "ip6tables-nft"} {
			for _, args := range []string{
				"-N ECS_SERVICE_CONNECT_INGRESS",
				"-A ECS_SERVICE_CONNECT_INGRESS -p tcp --dport 8080 -j REDIRECT --to-ports 15010",
				"-A PREROUTING -p tcp -m addrtype ! --src-type LOCAL -j ECS_SERVICE_CONNECT_INGRESS",
			} {
				envoytest.Run(t, "ip", append([]string{"netns", "exec", ns, iptables, "-t", "nat"}, strings.Fields(args)...)...)
			}
		}
		envoytest.Run(t, "ip", "netns", "exec", ns, "iptables-nft", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", rule.VIPs.String(), "-j", "REDIRECT", "--to-ports", "15001")
	}
	for by, write := range map[string]func(*testing.T, string){
		"ours": func(t *testing.T, ns string) { install(t, ns, intercepting()) },
		"ECS":  ecs,
	} {
		t.Run(by, func(t *testing.T) {
			task, outside := pair(t)
			serve(t, task)
			write(t, task)
			for _, x := range []struct{ from, to, want string }{
				{outside, "192.0.2.1:8080", "ingress"}, {outside, "[2001:db8::1]:8080", "ingress"},
				{outside, "192.0.2.1:15010", "ingress"}, {outside, "[2001:db8::1]:15010", "ingress"},
				{outside, "192.0.2.1:9090", "other"}, {outside, "[2001:db8::1]:9090", "other"},
				{outside, "192.0.2.1:7070", "nobody"}, {outside, "[2001:db8::1]:7070", "nobody"},
				{task, "127.0.0.1:8080", "app"}, {task, "[::1]:8080", "app"},
				{task, "192.0.2.1:8080", "app"}, {task, "[2001:db8::1]:8080", "app"},
				{task, "127.128.1.1:8080", "egress"}, {task, "127.191.255.254:1", "egress"}, {task, "127.192.0.1:8080", "app"},
				// An IPv6 socket that is told the address in its IPv6 form.
				{task, "[::ffff:127.128.1.1]:8080", "egress"},
			} {
				if got := heard(t, x.from, x.to); got != x.want {
					t.Errorf("from %s to %s: %q answers, want %q", x.from, x.to, got, x.want)
				}
			}
		})
	}
}

// Rules of others that say something else of the same connections come second,
// whoever was first; what ours don't mean is theirs.
func TestRulesOfOthersStandBesideOurs(t *testing.T) {
	theirs := map[string]string{
		"iptables": "iptables-nft -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 9090 && iptables-nft -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 9090 && ip6tables-nft -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 9090",
		"nftables": `nft 'add table inet theirs
			add chain inet theirs out { type nat hook output priority -100; }
			add rule inet theirs out meta l4proto tcp redirect to :9090
			add chain inet theirs in { type nat hook prerouting priority -100; }
			add rule inet theirs in meta l4proto tcp redirect to :9090'`,
	}
	for by, script := range theirs {
		for _, first := range []string{"ours", "theirs"} {
			t.Run(by+", first "+first, func(t *testing.T) {
				task, outside := pair(t)
				serve(t, task)
				if first == "ours" {
					install(t, task, intercepting())
				}
				envoytest.Run(t, "ip", "netns", "exec", task, "sh", "-c", script)
				before := ruleset(t, task)
				if first == "theirs" {
					install(t, task, intercepting())
				}
				for _, x := range []struct{ from, to, want string }{
					{outside, "192.0.2.1:8080", "ingress"}, {outside, "[2001:db8::1]:8080", "ingress"}, {task, "127.128.1.1:8080", "egress"},
					{outside, "192.0.2.1:7070", "other"}, {outside, "[2001:db8::1]:7070", "other"}, {task, "192.0.2.2:80", "other"},
				} {
					if got := heard(t, x.from, x.to); got != x.want {
						t.Errorf("from %s to %s: %q answers, want %q", x.from, x.to, got, x.want)
					}
				}
				if first == "theirs" {
					envoytest.In(t, task, func() error { _, err := replace(nil); return err })
					if after := ruleset(t, task); after != before {
						t.Errorf("their rules were\n%s\nand are\n%s", before, after)
					}
				}
			})
		}
	}
}

func ruleset(t *testing.T, ns string) string {
	t.Helper()
	return envoytest.Run(t, "ip", "netns", "exec", ns, "nft", "-s", "list", "ruleset")
}

// echoing answers each line with its own name and the line.
func echoing(t *testing.T, ns, at, name string) {
	t.Helper()
	envoytest.In(t, ns, func() error {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					for r := bufio.NewScanner(c); r.Scan(); {
						fmt.Fprintln(c, name, r.Text())
					}
				}()
			}
		}()
		return nil
	})
}

// line is one line and its answer on a connection that stands.
func line(t *testing.T, c net.Conn, say string) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintln(c, say)
	got, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", c.RemoteAddr(), err)
	}
	return strings.TrimSpace(got)
}

// No connection that stands is lost: one from before the rule goes on with the
// application, whoever speaks next, and one that was taken goes on with Envoy
// when the rule is replaced.
func TestConnectionsThatStandGoOn(t *testing.T) {
	task, outside := pair(t)
	echoing(t, task, ":8080", "app")
	echoing(t, task, ":15010", "ingress")
	dial := func() (out []net.Conn) {
		for _, to := range []string{"192.0.2.1:8080", "[2001:db8::1]:8080"} {
			envoytest.In(t, outside, func() error {
				c, err := net.DialTimeout("tcp", to, 30*time.Second)
				if err == nil {
					out = append(out, c)
					t.Cleanup(func() { c.Close() })
				}
				return err
			})
		}
		return out
	}
	says := func(conns []net.Conn, want string) {
		t.Helper()
		for i, c := range conns {
			if got := line(t, c, "hello"); got != want+" hello" {
				t.Errorf("connection %d: %q, want %q", i, got, want)
			}
		}
	}
	direct := dial()
	says(direct, "app")
	first := install(t, task, intercepting())
	says(direct, "app")
	taken := dial()
	says(taken, "ingress")
	second := install(t, task, intercepting())
	says(direct, "app")
	says(taken, "ingress")
	says(dial(), "ingress")
	for _, i := range []*Installed{second, first} {
		envoytest.In(t, task, i.Remove)
	}
	says(direct, "app")
	says(dial(), "app")
	if left := ruleset(t, task); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// What an older version left, which knew no table of family ip6, is replaced,
// and so is the one of a task that intercepted before and does not now.
func TestTablesOfOtherVersionsAreReplaced(t *testing.T) {
	ns := envoytest.Netns(t)
	envoytest.Run(t, "ip", "netns", "exec", ns, "nft", `add table ip patchbay
		add chain ip patchbay output { type nat hook output priority -100; }
		add chain ip patchbay prerouting { type nat hook prerouting priority -100; }
		add rule ip patchbay output ip daddr 127.128.0.0/10 meta l4proto tcp redirect to :15001
		add rule ip patchbay prerouting tcp dport 7070 redirect to :15011`)
	i := install(t, ns, intercepting())
	all := ruleset(t, ns)
	if strings.Contains(all, "7070") || strings.Count(all, "dport 8080") != 2 || strings.Count(all, "table ") != 2 {
		t.Errorf("the old rule is not replaced by two: %s", all)
	}
	install(t, ns, rule)
	if all := ruleset(t, ns); strings.Contains(all, "8080") || strings.Contains(all, "ip6") {
		t.Errorf("interception has not ended: %s", all)
	}
	envoytest.In(t, ns, i.Remove)
	if left := ruleset(t, ns); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// Without IPv6 in the namespace, and where a table of family ip6 can't be had
// at all, connections by IPv4 are taken as ever.
func TestIPv4DoesNotNeedIPv6(t *testing.T) {
	t.Run("switched off", func(t *testing.T) {
		task, outside := pair(t)
		envoytest.Run(t, "ip", "netns", "exec", task, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
		serve(t, task)
		i := install(t, task, intercepting())
		for to, want := range map[string]string{"192.0.2.1:8080": "ingress", "192.0.2.1:9090": "other"} {
			if got := heard(t, outside, to); got != want {
				t.Errorf("%s: %q answers, want %q", to, got, want)
			}
		}
		envoytest.In(t, task, i.Remove)
		if left := ruleset(t, task); left != "" {
			t.Errorf("left behind: %s", left)
		}
	})
	// A table of our name that belongs to a living process refuses every change.
	t.Run("refused", func(t *testing.T) {
		task, outside := pair(t)
		serve(t, task)
		holder := exec.Command("ip", "netns", "exec", task, "nft", "-i")
		in, err := holder.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := holder.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := holder.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); holder.Wait() })
		fmt.Fprintln(in, "add table ip6 patchbay { flags owner; }\nlist tables")
		for r := bufio.NewScanner(out); ; {
			if !r.Scan() {
				t.Fatal("nft has no table")
			}
			if strings.Contains(r.Text(), "table ip6 patchbay") {
				break
			}
		}
		var i *Installed
		envoytest.In(t, task, func() (err error) { i, err = Install(intercepting()); return err })
		if i.NoIPv6 == nil {
			t.Error("nobody was told that connections by IPv6 are not taken")
		}
		if got := heard(t, outside, "192.0.2.1:8080"); got != "ingress" {
			t.Errorf("by IPv4 %q answers", got)
		}
		envoytest.In(t, task, i.Remove)
		if left := ruleset(t, task); strings.Contains(left, "table ip patchbay") {
			t.Errorf("left behind: %s", left)
		}
	})
}

package sidecar

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"patchbay/xds/bootstrap"
)

// TestTheAgentsOwnNamesAreNoAliases: what the agent itself calls never goes into
// the hosts file, and what an older agent wrote there comes out; the control
// plane hears of it, and the log has it once.
func TestTheAgentsOwnNamesAreNoAliases(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL_STS", "http://Sts.fake:4566")
	var said bytes.Buffer
	a, envoy := newAgent(t, func(c *Config) {
		c.XDS = []bootstrap.HostPort{{Host: "cp.brk", Port: 18000}, {Host: "cp2.brk", Port: 18000}}
		c.Agent = []string{"Agent.brk.:18001"}
		c.Log = slog.New(slog.NewTextHandler(&said, nil))
	})
	own := []string{"cp.brk", "cp2.brk", "agent.brk", "sts.fake", "sts.amazonaws.com", "sts.eu-west-1.amazonaws.com", "sts.cn-north-1.amazonaws.com.cn"}
	ours := "127.128.1.9     cp.brk # patchbay\n"
	if err := os.WriteFile(a.hosts.Path, []byte("127.0.0.1 localhost\n"+ours), 0o600); err != nil {
		t.Fatal(err)
	}
	all := list(name("api.brk", "127.128.1.1", 80))
	envoy.set(func(f *fakeAdmin) { f.listeners = []string{"egress-127.128.1.1-80", "egress-127.128.1.9-80"} })
	for _, n := range own {
		all.GetNames().Names = append(all.GetNames().Names, name(n, "127.128.1.9", 80))
	}
	a.hear(all)
	a.turn(t)
	n := a.turn(t)
	if got := a.file(t); !slices.Equal(got, []string{"api.brk 127.128.1.1"}) {
		t.Errorf("the hosts file has %q", got)
	}
	for _, o := range own {
		if !slices.ContainsFunc(n.GetRefused(), func(r string) bool { return strings.HasPrefix(r, o+": the agent itself") }) {
			t.Errorf("%s is not refused: %q", o, n.GetRefused())
		}
	}
	if got := strings.Count(said.String(), "a name can't be served here"); got != len(own) {
		t.Errorf("said %d times, want %d:\n%s", got, len(own), &said)
	}
	if len(n.GetWaiting()) != 0 {
		t.Errorf("waits for %q", n.GetWaiting())
	}
}

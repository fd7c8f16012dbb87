package family

import (
	"strings"
	"testing"

	"patchbay/internal/envoytest"
)

func TestFamiliesOfATask(t *testing.T) {
	ns, peer := envoytest.Netns(t), envoytest.Netns(t)
	envoytest.Run(t, "ip", "link", "add", "pb0", "netns", ns, "type", "veth", "peer", "name", "pb0", "netns", peer)
	for _, x := range []struct {
		command string
		ipv4    bool
		ipv6    bool
	}{
		{"link set pb0 up", false, false}, // loopback, and an address of the link alone
		{"addr add 2001:db8::1/64 dev pb0 nodad", false, true},
		{"addr add 192.0.2.1/24 dev pb0", true, true},
		{"addr del 2001:db8::1/64 dev pb0", true, false},
	} {
		envoytest.Run(t, "ip", append([]string{"-n", ns}, strings.Fields(x.command)...)...)
		envoytest.In(t, ns, func() error {
			if ipv4, ipv6 := Reachable(); ipv4 != x.ipv4 || ipv6 != x.ipv6 {
				t.Errorf("after %q: IPv4 %t, IPv6 %t; want %t, %t", x.command, ipv4, ipv6, x.ipv4, x.ipv6)
			}
			if !Listens() {
				t.Error("no socket for both families can be had")
			}
			return nil
		})
	}
}

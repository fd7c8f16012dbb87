package mesh

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func svc(name string, aliases ...Alias) *Service {
	return &Service{Name: ServiceName{"demo", name}, Protocol: HTTP, Aliases: aliases}
}

func TestStoreKeepsPointersOfUnchangedServices(t *testing.T) {
	s := NewStore()
	if !s.SetServices("demo", []*Service{svc("b"), svc("a")}) {
		t.Fatal("the first list must be a change")
	}
	first := s.Snapshot()
	if got := first.Services[0].Name.DiscoveryName; got != "a" {
		t.Fatalf("first service is %q, want the list sorted", got)
	}
	if s.SetServices("demo", []*Service{svc("a"), svc("b")}) {
		t.Fatal("an equal list must not make a generation")
	}
	changed := svc("b", Alias{DNSName: "b.demo", Port: 80})
	if !s.SetServices("demo", []*Service{svc("a"), changed}) {
		t.Fatal("a changed service must make a generation")
	}
	second := s.Snapshot()
	if second.Generation != first.Generation+1 {
		t.Errorf("generation went from %d to %d", first.Generation, second.Generation)
	}
	if second.Services[0] != first.Services[0] {
		t.Error("the unchanged service lost its pointer")
	}
	if second.Services[1] != changed {
		t.Error("the changed service is not the one given")
	}
	if first.Service(ServiceName{"demo", "b"}) == changed {
		t.Error("an older snapshot was modified")
	}
}

func TestStoreNamespacesAreIndependent(t *testing.T) {
	s := NewStore()
	s.SetServices("demo", []*Service{svc("a")})
	other := &Service{Name: ServiceName{"prod", "x"}}
	s.SetServices("prod", []*Service{other})
	s.SetServices("demo", nil)
	snap := s.Snapshot()
	if len(snap.Services) != 1 || snap.Services[0] != other {
		t.Fatalf("services = %v, want prod's only", snap.Services)
	}
	if !snap.Synced["demo"] || !snap.Synced["prod"] || snap.Synced["else"] {
		t.Fatalf("synced = %v", snap.Synced)
	}
	if n := len(snap.Namespace("prod")); n != 1 {
		t.Fatalf("namespace prod has %d services", n)
	}
}

func TestStoreEmptyNamespaceIsSynced(t *testing.T) {
	s := NewStore()
	if !s.SetServices("demo", nil) {
		t.Fatal("becoming synced is a change")
	}
	if s.SetServices("demo", nil) {
		t.Fatal("staying empty is none")
	}
}

func TestStoreWakesWaiters(t *testing.T) {
	s := NewStore()
	ch := s.Changed(s.Snapshot().Generation)
	select {
	case <-ch:
		t.Fatal("woken without a change")
	default:
	}
	s.SetLeaf(&Leaf{Service: ServiceName{"demo", "a"}, ChainPEM: []byte("x")})
	<-ch
	select {
	case <-s.Changed(0):
	default:
		t.Fatal("an old generation must not wait")
	}
	if s.SetLeaf(&Leaf{Service: ServiceName{"demo", "a"}, ChainPEM: []byte("x")}) {
		t.Fatal("an equal leaf is no change")
	}
}

func TestLeafHidesItsKey(t *testing.T) {
	l := &Leaf{Service: ServiceName{"demo", "a"}, KeyPEM: []byte("CANARY"), Serial: "ab"}
	json, _ := l.MarshalJSON()
	for _, s := range []string{l.String(), l.GoString(), l.LogValue().String(), string(json)} {
		if strings.Contains(s, "CANARY") || !strings.Contains(s, "ab") {
			t.Errorf("%q", s)
		}
	}
}

func TestResolveGivesContestedAliasToTheOlder(t *testing.T) {
	young := svc("young", Alias{DNSName: "api", Port: 80}, Alias{DNSName: "young.demo", Port: 80})
	young.Created = time.Unix(200, 0)
	old := svc("old", Alias{DNSName: "api", Port: 80})
	old.Created = time.Unix(100, 0)
	out, conflicts := Resolve([]*Service{young, old})
	if len(conflicts) != 1 || conflicts[0].Winner != old.Name || conflicts[0].Loser != young.Name {
		t.Fatalf("conflicts = %v", conflicts)
	}
	if len(out[0].Aliases) != 1 || out[0].Aliases[0].DNSName != "young.demo" {
		t.Errorf("the younger has %v", out[0].Aliases)
	}
	if len(young.Aliases) != 2 {
		t.Error("the input was modified")
	}
	if v := out[1].Aliases[0].VIP; !LiveVIPs.Contains(v) {
		t.Errorf("VIP %v is out of range", v)
	}
}

func TestResolveKeepsWrittenVIPs(t *testing.T) {
	hash := PickVIP("b.demo", func(netip.Addr) bool { return false })
	a := svc("a", Alias{DNSName: "a.demo", Port: 80, VIP: hash})
	b := svc("b", Alias{DNSName: "b.demo", Port: 80}, Alias{DNSName: "b.demo", Port: 81})
	out, _ := Resolve([]*Service{a, b})
	if out[0] != a {
		t.Error("a service that needs no change keeps its pointer")
	}
	if got := out[1].Aliases; got[0].VIP == hash || got[0].VIP != got[1].VIP {
		t.Errorf("b's VIPs are %v; %v is taken, and one name has one VIP", got, hash)
	}
}

func TestPickVIPRange(t *testing.T) {
	n := 0
	got := PickVIP("x", func(a netip.Addr) bool {
		if !LiveVIPs.Contains(a) || netip.MustParsePrefix("127.128.0.0/24").Contains(a) {
			t.Fatalf("asked about %v", a)
		}
		n++
		return n < 1000
	})
	if !got.IsValid() || n != 1000 {
		t.Fatalf("got %v after %d", got, n)
	}
}

func FuzzCleanAddr(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "fe80::1%eth0", "::ffff:1.2.3.4", "backend", "010.0.0.1", "", "0.0.0.0", "127.128.0.1", "::ffff:127.255.0.1", "169.254.169.254", "255.255.255.255"} {
		f.Add(s, "80")
	}
	f.Add("10.0.0.1", "0")
	f.Add("10.0.0.1", "65536")
	f.Fuzz(func(t *testing.T, ip, port string) {
		a, err := CleanAddr(ip, port)
		if err != nil {
			return
		}
		if LiveVIPs.Contains(a.Addr()) || StrictVIPs.Contains(a.Addr()) || a.Addr().IsLinkLocalUnicast() {
			t.Fatalf("accepted %q as an endpoint", ip)
		}
		if !a.IsValid() || a.Port() == 0 || a.Addr().Zone() != "" || a.Addr().Is4In6() {
			t.Fatalf("accepted %q %q as %v", ip, port, a)
		}
		if again, err := CleanAddr(a.Addr().String(), port); err != nil || again != a {
			t.Fatalf("%v does not parse again: %v", a, err)
		}
	})
}

func TestValidDNSName(t *testing.T) {
	for s, want := range map[string]bool{
		"backend.prod": true, "backend": true, "_x.y-z": true, "": false, "-a": false, "a b": false,
		"a\nb": false, "A": false, "localhost": false, "localhost.x": true, "10.0.0.1": false, "a.": false, "::1": false, strings.Repeat("a", 128): false,
		"127.1": false, "2130706433": false, "0x7f.1": false, "a.0x7f": false, "0x": false, "a.7": false, "7.a": true, "a.0xg": true,
		"a..b": false, ".a": false, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "b." + strings.Repeat("a", 63): true, "b." + strings.Repeat("a", 64): false,
		"ip6-localhost": false, "ip6-loopback": false, "localhost.localdomain": false, "api.localhost": false, "host.docker.internal": true,
	} {
		if ValidDNSName(s) != want {
			t.Errorf("ValidDNSName(%q) = %v", s, !want)
		}
	}
}

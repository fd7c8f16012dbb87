package record

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"patchbay/mesh"
)

var (
	update   = flag.Bool("update", false, "rewrite the golden files")
	compared = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}), cmpopts.EquateEmpty()}
)

func ptr[T any](v T) *T { return &v }

func example() (Instance, Settings, map[string]netip.Addr) {
	return Instance{
			Endpoint: mesh.Endpoint{
				InstanceID: "4f1c.http", Addr: netip.MustParseAddrPort("10.0.1.7:15010"), Zone: "use1-az1",
				Health: mesh.Healthy, Weight: 1, Revision: "7", TLS: true,
			},
			Protocol: mesh.HTTP, Settings: "0123456789abcdef", Owner: "prod/backend", Task: "4f1c",
			Since: time.UnixMilli(1760000000123).UTC(), Lease: 15 * time.Second,
		}, Settings{
			Protocol: mesh.HTTP,
			Aliases:  []mesh.Alias{{DNSName: "backend.prod", Port: 8080}, {DNSName: "backend", Port: 8080}},
			TLS:      &mesh.ServiceTLS{Issuer: "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/1", Only: true, KMSKey: "alias/backend"},
			Timeouts: mesh.Timeouts{Idle: ptr(time.Hour), PerRequest: ptr(time.Duration(0))},
		}, map[string]netip.Addr{
			"backend": netip.MustParseAddr("127.130.0.9"), "backend.prod": netip.MustParseAddr("127.140.0.1"),
		}
}

func TestGolden(t *testing.T) {
	inst, settings, vips := example()
	c, err := Plan(nil, settings, vips)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, part := range []struct {
		title string
		attrs map[string]string
	}{{"instance " + inst.Endpoint.InstanceID, inst.Attributes()}, {"service", c.Put}} {
		fmt.Fprintf(&b, "# %s\n", part.title)
		for _, k := range slices.Sorted(maps.Keys(part.attrs)) {
			fmt.Fprintf(&b, "%s = %s\n", k, part.attrs[k])
		}
	}
	file := filepath.Join("testdata", "attributes.golden")
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("what is written has changed (-golden +now):\n%s", diff)
	}
}

func TestInstanceRoundTrip(t *testing.T) {
	full, _, _ := example()
	v6 := Instance{Endpoint: mesh.Endpoint{InstanceID: "a", Addr: netip.MustParseAddrPort("[fd00::1]:80"), Weight: 1}}
	for _, in := range []Instance{full, v6} {
		attrs := in.Attributes()
		out, err := ParseInstance(in.Endpoint.InstanceID, in.Endpoint.Health, attrs)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(in, out, compared); diff != "" {
			t.Error(diff)
		}
		own := 0
		for k := range attrs {
			if strings.HasPrefix(k, "PATCHBAY_") {
				own++
			}
		}
		if own > 12 {
			t.Errorf("%d attributes of ours, more than 12", own)
		}
	}
}

func TestMalformedInstancesHaveAReason(t *testing.T) {
	ok := map[string]string{AttrIPv4: "10.0.0.1", AttrPort: "80"}
	for _, c := range []struct {
		key, value, reason string
	}{
		{AttrIPv4, "", "no_address"},
		{AttrIPv4, "db.example.com", "host_name"},
		{AttrIPv4, "0.0.0.0", "unspecified_address"},
		{AttrIPv4, "fe80::1%eth0", "scoped_address"},
		{AttrIPv4, "255.255.255.255", "unspecified_address"},
		{AttrIPv4, "169.254.169.254", "link_local_address"},
		{AttrIPv4, "fe80::1", "link_local_address"},
		{AttrIPv4, "127.128.0.53", "virtual_ip"},
		{AttrIPv4, "127.191.255.255", "virtual_ip"},
		{AttrIPv4, "::ffff:127.130.7.7", "virtual_ip"},
		{AttrIPv4, "127.255.0.1", "virtual_ip"},
		{AttrPort, "0", "bad_port"},
		{AttrPort, "", "bad_port"},
		{AttrPort, "70000", "bad_port"},
		{AttrTLS, "yes", "bad_tls_flag"},
	} {
		attrs := maps.Clone(ok)
		attrs[c.key] = c.value
		_, err := ParseInstance("i", mesh.Unknown, attrs)
		if err == nil || Reason(err) != c.reason {
			t.Errorf("%s=%q: %v (%s), want %s", c.key, c.value, err, Reason(err), c.reason)
		}
	}
	for _, ip := range []string{"10.0.0.1", "127.0.0.1", "127.127.255.255", "127.192.0.0", "::1", "fd00::1"} {
		if _, err := ParseInstance("i", mesh.Unknown, map[string]string{AttrIPv4: ip, AttrPort: "80"}); err != nil {
			t.Errorf("a foreign instance with the address %s and a port: %v", ip, err)
		}
	}
}

func TestServiceKeepsTheTwoNewestDocuments(t *testing.T) {
	_, a, vips := example()
	b, c := a, a
	b.TLS, c.Timeouts = nil, mesh.Timeouts{}
	_, ha, _ := a.Encode()
	_, hb, _ := b.Encode()
	_, hc, _ := c.Encode()
	attrs := map[string]string{"team": "blue"}
	for _, step := range []struct {
		settings Settings
		current  string
		kept     []string
	}{
		{a, ha, []string{ha}},
		{b, hb, []string{ha, hb}},
		{b, hb, []string{ha, hb}},
		{c, hc, []string{hb, hc}},
		{b, hb, []string{hb, hc}},
	} {
		change, err := Plan(attrs, step.settings, vips)
		if err != nil {
			t.Fatal(err)
		}
		before := change.Apply(attrs)
		for _, k := range change.Delete {
			delete(attrs, k)
		}
		if attrs[AttrCurrent] != "" {
			if _, err := ParseService(attrs); err != nil {
				t.Fatalf("between the two calls: %v", err)
			}
		}
		attrs = before
		s, err := ParseService(attrs)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(step.kept)
		if got := slices.Sorted(maps.Keys(s.Documents)); s.Current != step.current || !slices.Equal(got, step.kept) {
			t.Fatalf("current %s of %v, want %s of %v", s.Current, got, step.current, step.kept)
		}
		if diff := cmp.Diff(vips, s.VIPs, compared); diff != "" {
			t.Error(diff)
		}
		again, err := Plan(attrs, step.settings, vips)
		if err != nil || !again.Empty() {
			t.Errorf("writing the same again wants %v, %v", again, err)
		}
	}
	if attrs["team"] != "blue" {
		t.Error("an attribute of others was touched")
	}
}

func TestLimits(t *testing.T) {
	s := Settings{Protocol: mesh.TCP}
	vips := map[string]netip.Addr{}
	for i := range 150 {
		name := fmt.Sprintf("name-%03d.of.some.length.in.production", i)
		s.Aliases = append(s.Aliases, mesh.Alias{DNSName: name, Port: 80})
	}
	for i := range 100 {
		vips[fmt.Sprintf("name-%03d.of.some.length.in.production", i)] = netip.AddrFrom4([4]byte{127, 130, 0, byte(i)})
	}
	c, err := Plan(nil, s, vips)
	if err != nil {
		t.Fatal(err)
	}
	chunks := 0
	for k, v := range c.Put {
		if len(v) > MaxValue || len(k) > 255 {
			t.Errorf("%s: %d bytes", k, len(v))
		}
		if strings.HasPrefix(k, settingsPrefix) && k != AttrCurrent {
			chunks++
		}
	}
	if chunks < 2 || len(c.Put) > MaxServiceAttrs {
		t.Errorf("%d chunks, %d attributes", chunks, len(c.Put))
	}
	got, err := ParseService(c.Put)
	if err != nil || len(got.VIPs) != len(vips) || len(got.Settings().Aliases) != len(s.Aliases) {
		t.Fatalf("read back: %v, %d VIPs", err, len(got.VIPs))
	}
	crowded := map[string]string{}
	for i := range 28 {
		crowded[fmt.Sprintf("theirs.%d", i)] = "x"
	}
	if _, err := Plan(crowded, s, vips); !errors.Is(err, ErrTooLarge) {
		t.Errorf("in a crowded service: %v", err)
	}
	for i := range 200 {
		s.Aliases = append(s.Aliases, mesh.Alias{DNSName: fmt.Sprintf("further-%03d.of.some.length.in.production", i), Port: 80})
	}
	if _, err := Plan(nil, s, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a huge document: %v", err)
	}
}

func TestDamageIsNeverForeign(t *testing.T) {
	_, s, vips := example()
	c, _ := Plan(nil, s, vips)
	whole := c.Put
	if _, err := ParseService(map[string]string{"a": "b"}); !errors.Is(err, ErrNoSettings) {
		t.Errorf("foreign: %v", err)
	}
	for k := range whole {
		if k == AttrCurrent || k == AttrVIPs {
			continue
		}
		for what, damage := range map[string]func(map[string]string){
			"lost": func(m map[string]string) { delete(m, k) },
			"cut":  func(m map[string]string) { m[k] = m[k][:len(m[k])/2] },
			"changed": func(m map[string]string) {
				m[k] = strings.Replace(m[k], "8080", "8081", 1)
			},
		} {
			m := maps.Clone(whole)
			damage(m)
			if _, err := ParseService(m); err == nil || errors.Is(err, ErrNoSettings) {
				t.Errorf("%s %s: %v", k, what, err)
			}
		}
	}
	m := maps.Clone(whole)
	m[AttrVIPs] = `{"backend":"8.8.8.8","bad name":"127.130.0.1","backend.prod":"127.140.0.1"}`
	got, err := ParseService(m)
	if err != nil || len(got.VIPs) != 1 {
		t.Errorf("VIPs %v, %v", got.VIPs, err)
	}
}

func TestBadSettingsNameEveryProblem(t *testing.T) {
	_, _, err := Settings{
		Protocol: "udp", Aliases: []mesh.Alias{{DNSName: "UPPER", Port: 1}, {DNSName: "ok"}},
		TLS: &mesh.ServiceTLS{KMSKey: "my key"}, Timeouts: mesh.Timeouts{Idle: ptr(-time.Second)},
	}.Encode()
	for want, timeouts := range map[string]mesh.Timeouts{"idle": {Idle: ptr(mesh.MaxTimeout + 1)}, "perRequest": {PerRequest: ptr(mesh.MaxTimeout + 1)}} {
		if _, _, err := (Settings{Protocol: mesh.HTTP, Timeouts: timeouts}).Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s beyond what Envoy can hold: %v", want, err)
		}
	}
	for _, want := range []string{`"udp"`, `"UPPER"`, "the port", "issuer", "KMS key", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestInstanceIDFits(t *testing.T) {
	if got := InstanceID("4f1c", "http"); got != "4f1c.http" {
		t.Error(got)
	}
	long := strings.Repeat("a", 64)
	a, b := InstanceID(long, "http"), InstanceID(long, "grpc")
	if len(a) > 64 || len(b) > 64 || a == b {
		t.Errorf("%s %s", a, b)
	}
}

func FuzzParseInstance(f *testing.F) {
	f.Add("10.0.0.1", "", "80", "true", "1760000000123", "15")
	f.Add("", "fe80::1%eth0", "0", "", "-1", "x")
	f.Fuzz(func(t *testing.T, v4, v6, port, tls, since, lease string) {
		in, err := ParseInstance("id", mesh.Unknown, map[string]string{
			AttrIPv4: v4, AttrIPv6: v6, AttrPort: port, AttrTLS: tls, AttrSince: since, AttrLease: lease,
		})
		if err != nil {
			if Reason(err) == "other" {
				t.Errorf("an error without a word: %v", err)
			}
			return
		}
		if !in.Endpoint.Addr.IsValid() || in.Endpoint.Addr.Port() == 0 || in.Endpoint.Addr.Addr().Zone() != "" {
			t.Errorf("address %v", in.Endpoint.Addr)
		}
		again, err := ParseInstance("id", mesh.Unknown, in.Attributes())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(in, again, compared); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzParseService(f *testing.F) {
	_, s, vips := example()
	c, _ := Plan(nil, s, vips)
	_, h, _ := s.Encode()
	f.Add(h, c.Put[settingsPrefix+h+".0"], c.Put[AttrVIPs])
	f.Add("x", "{}", "null")
	f.Fuzz(func(t *testing.T, current, doc, table string) {
		// A hash that fits is what an attacker or a bug could write too.
		attrs := map[string]string{AttrCurrent: hash([]byte(doc)), settingsPrefix + hash([]byte(doc)) + ".0": doc, AttrVIPs: table}
		if current != h {
			attrs[AttrCurrent] = current
		}
		got, err := ParseService(attrs)
		if err != nil {
			return
		}
		for _, a := range got.Aliases() {
			if !mesh.ValidDNSName(a.DNSName) || a.Port == 0 || (a.VIP.IsValid() && !mesh.LiveVIPs.Contains(a.VIP)) {
				t.Errorf("alias %v", a)
			}
		}
		plan, err := Plan(nil, got.Settings(), got.VIPs)
		if err != nil {
			return // too large
		}
		again, err := ParseService(plan.Put)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got.Settings(), again.Settings(), compared); diff != "" {
			t.Error(diff)
		}
	})
}

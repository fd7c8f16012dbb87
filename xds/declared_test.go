package xds

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"patchbay/config"
	"patchbay/declare"
	"patchbay/external"
	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/mesh/record"
	"patchbay/xds/bootstrap"
	"patchbay/xds/leds"
	"patchbay/xds/views"
)

// TestNoDeclarationIsRejectedByEnvoy: whatever the readers of declarations and
// of the control plane's file let through, the real Envoy takes: that of a task
// which offers all of it and calls all of it. Members are drawn from the corners
// of what is allowed. PATCHBAY_CORNERS says how many meshes are tried,
// PATCHBAY_CORNERS_SEED which is the first.
func TestNoDeclarationIsRejectedByEnvoy(t *testing.T) {
	number := func(name string, otherwise uint64) uint64 {
		if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
			return n
		}
		return otherwise
	}
	seed := number("PATCHBAY_CORNERS_SEED", 1)
	for i := range number("PATCHBAY_CORNERS", 6) {
		t.Run(fmt.Sprintf("seed %d", seed+i), func(t *testing.T) {
			d := &drawn{Rand: rand.New(rand.NewPCG(seed+i, 41)), t: t, ca: testca.New(t), used: map[string]bool{}}
			d.try()
		})
	}
}

// drawn is a mesh of chance.
type drawn struct {
	*rand.Rand
	t    *testing.T
	ca   *testca.CA
	used map[string]bool
}

func (d *drawn) one(list ...string) string { return list[d.IntN(len(list))] }

// some is some of the members of an object.
func (d *drawn) some(members ...string) string {
	return strings.Join(slices.DeleteFunc(members, func(string) bool { return d.IntN(2) == 0 }), ",")
}

// name is one that nothing has yet, at the limits of length and characters.
func (d *drawn) name(chars string, most int) string {
	for {
		b := []byte{"abcxyz0189_"[d.IntN(11)]}
		for n := []int{2, 4, most}[d.IntN(3)]; len(b) < n; {
			b = append(b, chars[d.IntN(len(chars))])
		}
		if s := string(b); !d.used[s] {
			d.used[s] = true
			return s
		}
	}
}

// task is a declaration of up to four services, as it is read.
func (d *drawn) task() declare.Task {
	for range 100 {
		var services, mappings, policies []string
		for range d.IntN(4) + 1 {
			name, protocol := d.name("abcxyz0189_-", 64), d.one(`,"appProtocol":"http"`, `,"appProtocol":"http2"`, `,"appProtocol":"grpc"`, "")
			mappings = append(mappings, fmt.Sprintf(`{"name":%q,"containerPort":%d%s}`, name, d.IntN(65535)+1, protocol))
			text, tls := d.service(name, protocol != "")
			services = append(services, text)
			if d.IntN(2) == 0 {
				policies = append(policies, fmt.Sprintf("%q:%s", name, d.policy(policy.OfService, protocol != "", tls)))
			}
		}
		if d.IntN(2) == 0 {
			policies = append(policies, fmt.Sprintf("%q:%s", d.one("s1", "nobody"), d.policy(policy.OfCaller, true, false)))
		}
		text := `{"serviceConnectConfiguration":{"enabled":true,"services":[` + strings.Join(services, ",") + `],"logConfiguration":{"logDriver":"awslogs"}` +
			d.one("", `,"accessLogConfiguration":{"format":"TEXT"}`, `,"accessLogConfiguration":{"format":"JSON","includeQueryParameters":"ENABLED"}`) +
			`},"portMappings":[` + strings.Join(mappings, ",") + `],"policies":{` + strings.Join(policies, ",") + `},"deploymentConfiguration":` +
			d.one(`{"strategy":"CANARY"}`, `{"strategy":"LINEAR","linearConfiguration":{"stepPercent":3}}`, `{}`) + `}`
		task, err := declare.Parse([]byte(text))
		if err == nil {
			return task
		}
		if strings.Contains(err.Error(), "not JSON") {
			d.t.Fatalf("%v\n%s", err, text)
		}
	}
	d.t.Fatal("of 100 declarations none is accepted")
	return declare.Task{}
}

func (d *drawn) service(name string, l7 bool) (text string, tls bool) {
	seconds := func() string { return d.one("0", "1", "15", "2147483647") }
	alias := `{"port":` + d.one("1", "80", "65535", strconv.Itoa(d.IntN(65535)+1)) + `,"dnsName":"` + d.name("abcxyz0189_-", 63) + d.one("", ".b", "."+strings.Repeat("l", 63)) + `"`
	timeout := d.some(`"idleTimeoutSeconds":` + seconds())
	if l7 {
		timeout = d.some(`"idleTimeoutSeconds":`+seconds(), `"perRequestTimeoutSeconds":`+seconds())
		if d.IntN(2) == 0 {
			alias += `,"testTrafficRules":{"header":` + d.one(`{"name":"x"}`, `{"name":"`+strings.Repeat("X", 128)+`"}`,
				`{"name":"!#$%&'*+.^_|~","value":{"exact":"%REQ(x)% \"\\"}}`, `{"name":"x-t","value":{"exact":"`+strings.Repeat("v", 5000)+`"}}`, `{"name":"Host","value":{"exact":"a"}}`) + `}`
		}
	}
	text = `{"portName":"` + name + `","timeout":{` + timeout + `}`
	if d.IntN(3) > 0 {
		text += `,"clientAliases":[` + alias + `}]`
	}
	if tls = d.IntN(2) == 0; tls {
		text += `,"tls":{"issuerCertificateAuthority":{"awsPcaAuthorityArn":"` + d.one("default", anARN) + `"}}`
	}
	return text + "}", tls
}

const anARN = "arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/0f0f0f0f-1111-2222-3333-444444444444"

func (d *drawn) policy(side policy.Side, l7, tls bool) []byte {
	for {
		p := corner(d.t, d.Rand)
		if side == policy.OfCaller {
			p.Timeout = &policy.Timeout{PerRequest: new(policy.Duration(d.IntN(2))), Idle: new(policy.MaxDuration)}
		} else if d.IntN(2) == 0 {
			p.RateLimit = &policy.RateLimit{Requests: []uint32{1, 1<<32 - 1}[d.IntN(2)], Per: []policy.Duration{policy.Duration(50 * time.Millisecond), policy.MaxDuration}[d.IntN(2)]}
		}
		if tls && d.IntN(2) == 0 {
			p.MutualTLS = &policy.MutualTLS{Mode: d.one(policy.Modes...)}
			if p.Asks() && d.IntN(2) == 0 {
				p.Authorization = &policy.Authorization{DryRun: d.IntN(2) == 0, Rules: []policy.Rule{{From: []string{"*"}}, {From: []string{"a", "b/*"}}}}
			}
		}
		if p.Problems() == nil && p.Misplaced(side, l7) == nil && (tls || p.WithoutTLS() == nil) {
			return p.Encode()
		}
	}
}

// stored is what the registry keeps of a port's settings, read again.
func (d *drawn) stored(p declare.Port) *mesh.Service {
	s := &mesh.Service{Name: name(p.DiscoveryName), Protocol: p.Protocol}
	written := record.Settings{Protocol: p.Protocol, TLS: p.TLS, Timeouts: p.Timeouts, Policy: p.Policy}
	for _, a := range p.Aliases {
		if a.DNSName == "" {
			a.DNSName = s.Name.String()
		}
		written.Aliases = append(written.Aliases, mesh.Alias{DNSName: a.DNSName, Port: a.Port})
	}
	doc, _, err := written.Encode()
	if err != nil {
		d.t.Fatalf("what is accepted can't be written: %v", err)
	}
	read, err := record.DecodeSettings(doc)
	if err != nil {
		d.t.Fatalf("what was written can't be read: %v\n%s", err, doc)
	}
	s.Aliases, s.TLS, s.Timeouts, s.Policy = read.Aliases, read.TLS, read.Timeouts, read.Policy
	d.deployed(s)
	return s
}

// deployed gives a service endpoints, of two revisions that share its calls.
func (d *drawn) deployed(s *mesh.Service) {
	s.Endpoints = nil
	for i := range d.IntN(5) {
		ip := []string{"10.0.0.1", "2001:db8::1", "192.0.2.255", "fd00::ffff"}[d.IntN(4)]
		s.Endpoints = append(s.Endpoints, mesh.Endpoint{InstanceID: strconv.Itoa(i), Addr: netip.AddrPortFrom(netip.MustParseAddr(ip), uint16([]int{1, 65535, 8080 + i}[d.IntN(3)])), //nolint:gosec // it fits
			Zone: d.one("", "use1-az1", "use1-az2", "a zone/ü"), Health: mesh.Health(d.IntN(3)), Weight: 1, Revision: d.one("", "blue", "green"), TLS: s.TLS != nil && d.IntN(3) > 0})
	}
	slices.SortFunc(s.Endpoints, mesh.Endpoint.Compare)
	s.Endpoints = slices.CompactFunc(s.Endpoints, func(a, b mesh.Endpoint) bool { return a.Addr == b.Addr })
	if s.Deployment = nil; d.IntN(2) == 0 {
		s.Deployment = mesh.Deploy(mesh.Shift{ID: "x", From: "blue", To: "green", Weights: []uint32{uint32([]int{0, 1, 500, 1000}[d.IntN(4)])}}, //nolint:gosec // it fits
			[]mesh.Birth{{Revision: "blue"}, {Revision: "green"}}[:d.IntN(2)+1])
	}
}

// file is a control plane's with targets outside the mesh and a collector.
func (d *drawn) file() config.Config {
	for range 100 {
		text := "namespaces: [prod]\ncloudMap: {}\nissuers: {default: {privateCA: {arn: " + anARN + "}}}\n"
		if d.IntN(2) == 0 {
			text += "tracing: {" + d.some("protocol: "+d.one("http", "grpc"), "sampling: "+d.one("0.01", "1", "100")) + "}\n"
			text = strings.Replace(text, "tracing: {", "tracing: {collector: "+d.one(`"127.0.0.1:4317"`, `"[2001:db8::1]:1"`, `"a_b.internal:65535"`)+", ", 1)
			text = strings.Replace(text, ", }", "}", 1)
		}
		text += "external:\n"
		for range d.IntN(4) + 1 {
			host := d.one(`"10.1.1.1:1"`, `"[2001:db8::2]:65535"`, `"`+strings.Repeat("a.", 60)+`b:443"`, `"x_y:80"`)
			text += "  - {name: " + d.one("ext", "e") + strconv.Itoa(d.IntN(1000)) + ", addresses: [" + host + d.one("", `, "10.1.1.2:80"`, `, "c.example:80"`) + "]"
			if more := d.some("protocol: "+d.one("http", "http2", "grpc", "tcp"), "discovery: "+d.one("STRICT_DNS", "LOGICAL_DNS"), "host: "+d.one(`"h:1"`, strings.Repeat("h", 63)),
				"tls: {"+d.some("sni: s.example", `names: [n.example, "10.0.0.1"]`, `minimumVersion: "`+d.one("1.2", "1.3")+`"`)+"}", "alias: {port: "+d.one("1", "65535")+"}"); more != "" {
				text += ", " + more
			}
			text += "}\n"
		}
		if c, err := config.Parse("patchbay.yaml", []byte(text)); err == nil {
			return c
		} else if strings.Contains(err.Error(), "YAML") {
			d.t.Fatalf("%v\n%s", err, text)
		}
	}
	d.t.Fatal("of 100 files none is accepted")
	return config.Config{}
}

func (d *drawn) targets(c config.Config) (out []*mesh.Service) {
	for _, e := range c.External {
		x := external.Target{Name: name(e.Name), Protocol: mesh.Protocol(e.Protocol), Alias: e.AliasIn(c), Addresses: e.HostPorts(), Discovery: e.Discovery, Host: e.Host}
		if e.TLS != nil {
			x.TLS = &mesh.ExternalTLS{SNI: e.TLS.SNI, Names: e.TLS.Names, Roots: d.ca.RootPEM, MinimumVersion: e.TLS.MinimumVersion}
		}
		out = append(out, x.Service())
	}
	return out
}

// try has one Envoy take everything, and then changes of it.
func (d *drawn) try() {
	t := d.t
	file := d.file()
	opts := []Option{Identities("mesh.test", "default"), Collections([]leds.Mode{leds.Off, leds.On}[d.IntN(2)])}
	if x := file.Tracing; x != nil {
		opts = append(opts, Tracing(views.Tracing{Collector: x.CollectorAddress(), HTTP: x.Protocol == "http", Percent: x.Sampling}))
	}
	ns := envoytest.Netns(t)
	var lis net.Listener
	envoytest.In(t, ns, func() (err error) { lis, err = net.Listen("tcp", "127.0.0.1:0"); return err })
	c := startControlOn(t, lis, opts...)
	c.trust(d.ca)
	c.store.SetBundle(&mesh.Bundle{Issuer: anARN, RootsPEM: d.ca.RootPEM})
	c.identify(t, d.ca, mesh.Workload{Namespace: "prod", Name: "all"}, "1")

	meta := bootstrap.NodeMeta{Version: "test", Wiring: mesh.Redirect, IPv6: d.IntN(2) == 0, Exclusive: d.IntN(2) == 0, Policies: map[string]*policy.Policy{}}
	services := d.targets(file)
	for len(services) < 40 {
		task := d.task()
		maps.Copy(meta.Policies, task.Policies)
		if l := task.AccessLog; l != nil {
			meta.AccessLog = bootstrap.AccessLog{Format: l.Format, QueryParameters: l.QueryParameters}
		}
		for _, p := range task.Ports {
			s := d.stored(p)
			if services = append(services, s); s.TLS != nil {
				chain, key := d.ca.Issue(t, s.Name.String())
				c.store.SetLeaf(&mesh.Leaf{Service: s.Name, Issuer: s.TLS.Issuer, Serial: "1", ChainPEM: chain, KeyPEM: key})
			}
			listener := 20000 + len(meta.Ports)
			if listener == int(p.ContainerPort) { // the application has it
				listener += 10000
			}
			meta.Ports = append(meta.Ports, d.offer(p, listener))
		}
	}
	names := map[string]bool{}
	listeners := len(meta.Ports) + 1
	for i, s := range services {
		for j := range s.Aliases {
			s.Aliases[j].VIP = netip.AddrFrom4([4]byte{127, 130, byte(i), byte(j + 1)})
			names[s.Aliases[j].DNSName] = true
			listeners++
		}
	}
	if d.IntN(3) == 0 { // such a task says none of these
		meta.Profile, meta.Policies, meta.Names = mesh.Strict, nil, mesh.NumberVIPs(slices.Collect(keysOf(names)))
		for i := range meta.Ports {
			meta.Ports[i].Policy = nil
		}
	}
	c.store.SetServices("prod", services)
	e := d.start(c, ns, meta)
	d.taken(c, e, listeners, len(services))

	next := slices.Clone(services)
	for i, s := range next {
		if s.External != nil {
			continue
		}
		changed := *s
		d.deployed(&changed)
		if d.IntN(2) == 0 {
			p, err := policy.Decode(d.policy(policy.OfService, s.Protocol.L7(), s.TLS != nil))
			if err != nil {
				t.Fatal(err)
			}
			changed.Policy = p
		}
		next[i] = &changed
	}
	c.store.SetServices("prod", next)
	d.taken(c, e, listeners, len(services))
}

func keysOf(m map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// offer is a port of the one task, whose listener is on a port of its own.
func (d *drawn) offer(p declare.Port, listener int) bootstrap.Port {
	seconds := func(x *time.Duration) *int64 {
		if x == nil {
			return nil
		}
		return new(int64(*x / time.Second))
	}
	out := bootstrap.Port{PortName: p.PortName, DiscoveryName: p.DiscoveryName, Protocol: p.Protocol, AppPort: p.ContainerPort, ListenerPort: uint16(listener), //nolint:gosec // it fits
		AppAddress: d.one("", "10.2.2.2", "::1"), IdleSeconds: seconds(p.Timeouts.Idle), PerRequestSeconds: seconds(p.Timeouts.PerRequest), Policy: p.Policy}
	if p.TLS != nil {
		out.TLS = &bootstrap.PortTLS{Issuer: p.TLS.Issuer}
	}
	return out
}

func (d *drawn) start(c *control, ns string, meta bootstrap.NodeMeta) *envoytest.Envoy {
	d.t.Helper()
	admin := filepath.Join(d.t.TempDir(), "admin.sock")
	boot := bootstrap.Config{NodeID: "prod/all/1", NodeCluster: "prod/all", Zone: d.one("", "use1-az1"), AdminSocket: admin, Meta: meta,
		XDS: []bootstrap.HostPort{{Host: "127.0.0.1", Port: c.port}}}
	b, err := boot.JSON()
	if err != nil {
		d.t.Fatal(err)
	}
	e := envoytest.Start(d.t, b, admin, ns)
	e.Ready(d.t)
	return e
}

// taken waits until the Envoy has answered everything, and fails if it took
// anything else than all of it.
func (d *drawn) taken(c *control, e *envoytest.Envoy, listeners, services int) {
	t := d.t
	t.Helper()
	want := c.store.Snapshot().Generation
	envoytest.Eventually(t, time.Minute, func() error {
		c.pusher.mu.Lock()
		pushed := c.pusher.pushed.Generation
		held := 0
		for _, v := range c.pusher.views {
			held += len(v.held)
		}
		c.pusher.mu.Unlock()
		if pushed < want || held > 0 {
			return errors.New("not pushed")
		}
		for _, s := range c.cache.Status() {
			for _, k := range s.Types {
				for _, r := range k.Resources {
					if r.Waiting || r.Pending {
						return fmt.Errorf("%s %s is not answered", k.Type, r.Name)
					}
				}
			}
		}
		return nil
	})
	for _, s := range c.cache.Status() {
		for _, k := range s.Types {
			for _, r := range k.Rejected {
				t.Errorf("%s %s is rejected: %s", k.Type, r.Name, r.Error)
			}
		}
	}
	for _, w := range c.pusher.Withheld() {
		t.Errorf("withheld: %+v", w)
	}
	stats := e.Stats(t)
	for counter, n := range stats {
		if strings.HasSuffix(counter, "update_rejected") && n > 0 {
			t.Errorf("%s: %v", counter, n)
		}
	}
	if n := stats["listener_manager.total_listeners_active"]; n != float64(listeners) {
		t.Errorf("%v listeners, want %d", n, listeners)
	}
	if n := stats["cluster_manager.active_clusters"]; n < float64(services) {
		t.Errorf("%v clusters of %d services", n, services)
	}
}

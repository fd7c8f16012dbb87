// Package hops walks one call of a mesh, hop by hop, and says which fails.
//
// It owns the hops and what is compared at each: what the sidecars have, what
// the control plane wants, what a handshake and a real call showed. It must not
// know how facts are gathered. Start reading at [Explain].
package hops

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"patchbay/admin/api"
	"patchbay/diagnose"
	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// The states of a [Hop].
const (
	fine   = "ok"
	Fails  = "failed"
	Unseen = "unseen" // it was not looked at, or could not be
)

// Hop is one step of a call.
type Hop struct {
	Name   string `json:"name"` // client, name, listener, route, cluster, endpoints, tls, certificate, authorization, ingress, application
	State  string `json:"state"`
	Detail string `json:"detail"`
}

// Walk is a call, hop by hop, up to the first that fails.
type Walk struct {
	Client  string `json:"client"`
	URL     string `json:"url"`
	Service string `json:"service,omitempty"`
	// External is where the calls go, HOST:PORT, if it is outside the mesh.
	External []string          `json:"external,omitempty"`
	Hops     []Hop             `json:"hops"`
	Policy   []policy.Word     `json:"policy,omitempty"`  // what holds for it, and whose word that is
	Finding  *diagnose.Finding `json:"finding,omitempty"` // why it fails; absent: every hop looks right
}

// target is what a URL means to a client.
type target struct {
	host  string
	port  uint16
	named []api.Service // services that have the name at any port
	one   *api.Service  // that has it at this port
	vip   string
}

func resolve(st *api.Status, node, address string) (target, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return target{}, fmt.Errorf("url %q; allowed: http://NAME:PORT/PATH, tcp://NAME:PORT", address)
	}
	port := 80
	if u.Port() != "" {
		if port, err = strconv.Atoi(u.Port()); err != nil || port < 1 || port > 65535 {
			return target{}, fmt.Errorf("port %q of url %q; allowed: 1 to 65535", u.Port(), address)
		}
	}
	t := target{host: strings.ToLower(u.Hostname()), port: uint16(port)}
	namespace, _, _ := strings.Cut(node, "/")
	for i, s := range st.Services {
		if diagnose.NamespaceOf(s.Name) != namespace {
			continue
		}
		for _, a := range s.Aliases {
			if a.DNSName != t.host || a.LostTo != "" {
				continue
			}
			t.named = append(t.named, s)
			if a.Port == t.port {
				t.one, t.vip = &st.Services[i], a.VIP
			}
		}
	}
	return t, nil
}

// speaks reports whether applications call the service in the way that the URL
// says. A service of protocol tcp carries whatever they speak.
func (t target) speaks(address string) error {
	scheme, _, given := strings.Cut(address, "://")
	if !given || t.one == nil || t.one.Protocol == "" || t.one.Protocol == "tcp" || scheme == "http" {
		return nil
	}
	return fmt.Errorf("url %q: applications call %s in plain text, the sidecars encrypt; allowed: http://%s:%d/PATH", address, t.one.Name, t.host, t.port)
}

// url is the address with the scheme that it leaves out.
func (t target) url(address string) string {
	switch {
	case strings.Contains(address, "://"):
		return address
	case t.one.Protocol == "tcp":
		return "tcp://" + address
	}
	return "http://" + address
}

// Target is the service that a client means by a URL.
func Target(st *api.Status, node, address string) (string, bool) {
	t, err := resolve(st, node, address)
	if err != nil || t.one == nil {
		return "", false
	}
	return t.one.Name, true
}

// Explain walks a call from the client's application to the service's, in what
// the sidecars have and what the control plane wants them to have, and stops at
// the first hop that fails. An error means that the question makes no sense.
func Explain(f *diagnose.Facts, client, address string) (*Walk, error) {
	w := &walker{f: f, Walk: &Walk{Client: client, URL: address, Hops: []Hop{}}}
	if f.Status == nil {
		all := diagnose.Check(f)
		w.fail("control plane", "it does not answer", all[0])
		return w.Walk, nil
	}
	node, ok := diagnose.Client(f.Status, client)
	if !ok {
		cause, all := "no sidecar is called so; there are these", nodes(f.Status)
		if several := diagnose.Called(f.Status, client); len(several) > 0 {
			cause, all = "more than one sidecar is called so: name one of these", several[:min(len(several), 10)]
		}
		w.fail("client", "not in the mesh", diagnose.Finding{Code: "PB1601", Subject: client, Cause: cause, Evidence: all,
			Fix: []string{"patchbay status    (lists the sidecars)", "start patchbay sidecar beside the application"}})
		return w.Walk, nil
	}
	w.Client = node
	var err error
	if w.to, err = resolve(f.Status, node, address); err != nil {
		return nil, err
	}
	if err := w.to.speaks(address); err != nil {
		return nil, err
	}
	if w.to.one != nil {
		w.External, w.URL = w.to.one.External, w.to.url(address)
	}
	for _, s := range f.Status.Sidecars {
		if s.Node == node {
			w.from = s
		}
	}
	w.task, w.Policy = f.Tasks[node], f.Policy
	all := []func() bool{w.client, w.name, w.listener, w.route, w.cluster, w.endpoints, w.tls}
	if len(w.External) == 0 { // else nothing beyond the handshake is known to the mesh
		all = append(all, w.presented, w.authorization, w.ingress, w.application)
	}
	for _, hop := range all {
		if !hop() {
			break
		}
	}
	return w.Walk, nil
}

func nodes(st *api.Status) []string {
	var out []string
	for _, s := range st.Sidecars {
		if len(out) < 10 {
			out = append(out, s.Node)
		}
	}
	return out
}

type walker struct {
	*Walk
	f       *diagnose.Facts
	from    api.Sidecar
	to      target
	task    *api.Task
	current *api.TaskCluster
}

func (w *walker) ok(name, format string, args ...any) bool {
	w.Hops = append(w.Hops, Hop{name, fine, fmt.Sprintf(format, args...)})
	return true
}

func (w *walker) unseen(name, detail string) bool {
	w.Hops = append(w.Hops, Hop{name, Unseen, detail})
	return true
}

// fail ends the walk.
func (w *walker) fail(name, detail string, x diagnose.Finding) bool {
	x = diagnose.Complete(x)
	w.Hops = append(w.Hops, Hop{name, Fails, detail})
	w.Finding = &x
	return false
}

// known is the first finding of the whole diagnosis about a subject that has
// one of the codes.
func (w *walker) known(subject string, codes ...string) *diagnose.Finding {
	for _, x := range diagnose.Check(w.f) {
		if x.Subject == subject && slices.Contains(codes, x.Code) {
			return &x
		}
	}
	return nil
}

func (w *walker) client() bool {
	const hop = "client"
	if x := w.known(w.Client, "PB1305", "PB1404", "PB1301", "PB1306", "PB1308"); x != nil {
		// A listener that Envoy can't open, or a secret that does not come,
		// explains why it is not ready.
		if x.Code == "PB1306" {
			if root := w.known(w.Client, "PB1302", "PB1303", "PB1304"); root != nil {
				x = root
			}
		}
		return w.fail(hop, x.Title, *x)
	}
	if w.from.Agent == nil {
		return w.unseen(hop, "no agent is connected: only what the control plane wants can be shown")
	}
	return w.ok(hop, "%s: Envoy %s, %s wiring, ready", w.Client, w.from.Agent.EnvoyVersion, w.from.Agent.Wiring)
}

func (w *walker) name() bool {
	const hop = "name"
	namespace, _, _ := strings.Cut(w.Client, "/")
	if len(w.to.named) == 0 {
		return w.fail(hop, w.to.host+" is not a name of namespace "+namespace, w.noSuchName(namespace))
	}
	if w.to.one == nil {
		var ports []string
		for _, s := range w.to.named {
			for _, a := range s.Aliases {
				if a.DNSName == w.to.host {
					ports = append(ports, fmt.Sprintf("%s:%d is %s", a.DNSName, a.Port, s.Name))
				}
			}
		}
		return w.fail(hop, fmt.Sprintf("%s has no port %d", w.to.host, w.to.port), diagnose.Finding{Code: "PB1603", Subject: w.to.host + ":" + strconv.Itoa(int(w.to.port)),
			Cause: "no service of namespace " + namespace + " is called so", Evidence: ports, Fix: []string{"call one of these ports, or add a clientAlias with the port"}})
	}
	w.Service = w.to.one.Name
	if x, out := diagnose.Undeclared(w.from, w.Service); out {
		return w.fail(hop, w.to.host+" is not among what the task declares that it calls", x)
	}
	if x, out := diagnose.Hidden(w.from, *w.to.one); out {
		return w.fail(hop, w.to.host+" is outside the mesh, and not for this workload", x)
	}
	if w.task == nil || w.task.Errors["hosts"] != "" {
		return w.unseen(hop, fmt.Sprintf("%s is %s; the task's hosts file was not looked at", w.to.host, w.to.vip))
	}
	has := w.task.Hosts[w.to.host]
	if own, err := netip.ParseAddr(has); err == nil && mesh.StrictVIPs.Contains(own) {
		w.to.vip = has // a strict task has its own
	}
	if has == w.to.vip {
		return w.ok(hop, "%s is %s in the task's hosts file", w.to.host, has)
	}
	if x := w.known(w.Client, "PB1102", "PB1402", "PB1304", "PB1302", "PB1303", "PB1403"); x != nil {
		return w.fail(hop, w.to.host+" is not in the task's hosts file", *x)
	}
	if has != "" {
		return w.fail(hop, fmt.Sprintf("%s is %s in the hosts file; the mesh has %s", w.to.host, has, w.to.vip), diagnose.Finding{Code: "PB1402", Subject: w.Client,
			Cause: "another line of the hosts file defines " + w.to.host, Fix: []string{"remove the name from extra_hosts, or from the file"}})
	}
	return w.fail(hop, w.to.host+" is not in the task's hosts file", diagnose.Finding{Code: "PB1403", Subject: w.Client, Cause: w.to.host + " has not been written",
		Fix: []string{"patchbay sidecar health --json    (in the task)"}})
}

func (w *walker) noSuchName(namespace string) diagnose.Finding {
	x := diagnose.Finding{Code: "PB1602", Subject: w.to.host, Cause: "no service of namespace " + namespace + " has this alias"}
	for _, s := range w.f.Status.Services {
		for _, a := range s.Aliases {
			switch {
			case a.DNSName == w.to.host && a.LostTo != "":
				x.Evidence = append(x.Evidence, fmt.Sprintf("%s declares it, but it belongs to %s", s.Name, a.LostTo))
			case a.DNSName == w.to.host:
				x.Evidence = append(x.Evidence, fmt.Sprintf("%s has it, in another namespace", s.Name))
			case diagnose.NamespaceOf(s.Name) == namespace && len(x.Evidence) < 8:
				x.Evidence = append(x.Evidence, fmt.Sprintf("there is %s:%d", a.DNSName, a.Port))
			}
		}
		if s.Name == w.to.host && len(s.Aliases) == 0 {
			x.Evidence = append(x.Evidence, s.Name+" has no alias yet: "+s.Source)
		}
	}
	x.Fix = []string{"call one of the names that there are, or start a task that offers the service"}
	return x
}

package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MutualTLS says whether callers must show who they are. Plain text is never a
// question here: it is for services with TLS only.
type MutualTLS struct {
	Mode string `json:"mode"` // one of [Modes]
	// Exempt lists portNames that stay permissive although Mode is required:
	// those behind load balancers, which have no certificate of the mesh.
	Exempt []string `json:"exempt,omitempty"`
}

// Modes of [MutualTLS].
const (
	Off        = "off"        // callers are not asked for a certificate: server authentication, as in ECS
	Permissive = "permissive" // a certificate is verified if one is shown
	Required   = "required"   // without one, nobody is let in
)

// Modes are what [MutualTLS.Mode] may be.
var Modes = []string{Off, Permissive, Required}

// Authorization is who may call the service, and what of it. Whatever no rule
// allows is refused. It goes by the workload that the caller's certificate
// names.
type Authorization struct {
	Rules []Rule `json:"rules"` // empty: nobody may call
	// DryRun refuses nothing, and reports what would have been refused.
	DryRun bool `json:"dryRun,omitempty"`
}

// Rule allows some callers some requests: all of those that it does not
// restrict.
type Rule struct {
	// From lists workloads: "name" in the service's namespace,
	// "namespace/name", "namespace/*", or "*/*" for all of them; "*" is
	// everybody, without a certificate too.
	From     []string `json:"from"`
	Methods  []string `json:"methods,omitempty"`
	Paths    []string `json:"paths,omitempty"`    // exactly; of grpc: /package.Service/Method
	Prefixes []string `json:"prefixes,omitempty"` // by whole segments unless they end in "/"
}

// Anybody is the word of [Rule.From] for everybody, without a certificate too.
const Anybody = "*"

// Asks reports whether callers are asked for a certificate. m may be nil.
func (m *MutualTLS) Asks() bool { return m != nil && (m.Mode == Permissive || m.Mode == Required) }

// Requires reports whether a caller without a certificate is refused, at one
// port of the service at least. m may be nil.
func (m *MutualTLS) Requires() bool { return m != nil && m.Mode == Required }

// Asks is [MutualTLS.Asks]. p may be nil.
func (p *Policy) Asks() bool { return p != nil && p.MutualTLS.Asks() }

// Requires is [MutualTLS.Requires]. p may be nil.
func (p *Policy) Requires() bool { return p != nil && p.MutualTLS.Requires() }

// RequiresAt is [Policy.Requires] for one port.
func (p *Policy) RequiresAt(portName string) bool {
	return p.Requires() && !slices.Contains(p.MutualTLS.Exempt, portName)
}

// Quiet is p without its wish for certificates.
func (p *Policy) Quiet() *Policy {
	if !p.Asks() {
		return p
	}
	q := *p
	q.MutualTLS = nil
	return &q
}

// Asking is p with the wish that callers show a certificate, which refuses
// nobody. p may be nil.
func (p *Policy) Asking() *Policy {
	q := Policy{}
	if p != nil {
		q = *p
	}
	q.MutualTLS = &MutualTLS{Mode: Permissive}
	return &q
}

const (
	maxRules   = 100
	maxEntries = 100 // of a rule's lists
)

func (c *checker) mutual(p *Policy) {
	if m := p.MutualTLS; m != nil {
		if m.Mode == "" {
			c.bad("mutualTls.mode", "is missing; allowed: %s", strings.Join(Modes, ", "))
		}
		c.oneOf("mutualTls.mode", m.Mode, Modes)
		if len(m.Exempt) > 0 && m.Mode != Required {
			c.bad("mutualTls.exempt", "has no effect with %s; allowed: with mode required", orWord(m.Mode, "no mode"))
		}
		if len(m.Exempt) > maxEntries {
			c.bad("mutualTls.exempt", "has %d entries; allowed: up to %d", len(m.Exempt), maxEntries)
		}
	}
	a := p.Authorization
	if a == nil {
		return
	}
	if !p.Asks() {
		c.bad("authorization", "goes by the caller's certificate, and none is asked for; allowed: with mutualTls.mode required, or permissive (whoever shows none is then nobody)")
	}
	if a.Rules == nil {
		c.bad("authorization.rules", "is missing; allowed: a list of rules; an empty one lets nobody in")
	}
	if n := len(a.Rules); n > maxRules {
		c.bad("authorization.rules", "has %d entries; allowed: up to %d", n, maxRules)
	}
	for i, r := range a.Rules {
		c.rule(fmt.Sprintf("authorization.rules[%d]", i), r)
	}
}

func (c *checker) rule(at string, r Rule) {
	if len(r.From) == 0 {
		c.bad(at+".from", `is missing; allowed: workloads, such as ["frontend", "other/batch"], or ["*"] for everybody`)
	}
	for i, from := range r.From {
		if _, _, ok := Workload(from, "here"); !ok && from != Anybody {
			c.bad(fmt.Sprintf("%s.from[%d]", at, i), `%s; allowed: NAME, NAMESPACE/NAME, NAMESPACE/*, */* or *`, strconv.Quote(from))
		}
	}
	c.methods(at+".methods", r.Methods)
	for i, p := range r.Paths {
		c.path(fmt.Sprintf("%s.paths[%d]", at, i), p)
	}
	for i, p := range r.Prefixes {
		c.path(fmt.Sprintf("%s.prefixes[%d]", at, i), p)
	}
	for _, list := range []struct {
		name string
		n    int
	}{{"from", len(r.From)}, {"methods", len(r.Methods)}, {"paths", len(r.Paths)}, {"prefixes", len(r.Prefixes)}} {
		if list.n > maxEntries {
			c.bad(at+"."+list.name, "has %d entries; allowed: up to %d", list.n, maxEntries)
		}
	}
}

// Workload reads an entry of [Rule.From] other than [Anybody]. home is the
// service's namespace; name is "*" for all workloads of one, and so is namespace
// for those of all.
func Workload(from, home string) (namespace, name string, ok bool) {
	namespace, name, cut := strings.Cut(from, "/")
	if !cut {
		namespace, name = home, from
	}
	all := cut && name == "*"
	return namespace, name, segment(namespace) && (segment(name) || all) || all && namespace == "*"
}

// segment is a path segment of a SPIFFE ID.
func segment(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	})
}

// misplacedMutual is the part of [Policy.Misplaced] about identities.
func (c *checker) misplacedMutual(p *Policy, side Side, l7 bool) {
	if side == OfCaller {
		const allowed = "is the service's to say; allowed: in the policy of the task that offers it"
		if p.MutualTLS != nil {
			c.bad("mutualTls", allowed)
		}
		if p.Authorization != nil {
			c.bad("authorization", allowed)
		}
	}
	if l7 || p.Authorization == nil {
		return
	}
	if !p.Requires() || len(p.MutualTLS.Exempt) > 0 {
		c.bad("authorization", "of tcp it is decided in the handshake, before either side has spoken; allowed: with mutualTls.mode required, without exempt")
	}
	for i, r := range p.Authorization.Rules {
		if slices.Contains(r.From, Anybody) {
			c.bad(fmt.Sprintf("authorization.rules[%d].from", i), "of tcp nobody gets in without a certificate; allowed: NAME, NAMESPACE/NAME, NAMESPACE/*, */*")
		}
		if r.Methods != nil || r.Paths != nil || r.Prefixes != nil {
			c.bad(fmt.Sprintf("authorization.rules[%d]", i), "a tcp port has no requests; allowed: from alone")
		}
	}
}

// WithoutTLS lists what p asks for and can't have because the service has no
// TLS.
func (p *Policy) WithoutTLS() []Problem {
	c := &checker{}
	if p.Asks() {
		c.bad("mutualTls", "the service has no TLS, so there is no certificate to ask for; allowed: with tls in the service's entry of serviceConnectConfiguration")
	}
	return c.problems
}

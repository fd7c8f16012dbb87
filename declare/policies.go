package declare

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// policies hands each policy to whom it concerns: that of a service which the
// task offers to its port, any other is the task's own word as a caller.
func (c *checker) policies(all map[string]*policy.Policy, t *Task) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p, at := all[name], below("policies", name)
		if p == nil {
			c.bad(at, "is null; allowed: an object")
			continue
		}
		if !mesh.ValidDiscoveryName(name) {
			c.bad(at, "%s; allowed: a discoveryName, up to 64 of [a-z0-9_-], not starting with '-'", quote(name))
		}
		problems := append(p.Problems(), p.Vain()...)
		if i := slices.IndexFunc(t.Ports, func(port Port) bool { return port.DiscoveryName == name }); i >= 0 {
			problems = append(problems, p.Misplaced(policy.OfService, t.Ports[i].Protocol.L7())...)
			if rules := t.Ports[i].Policy; rules != nil && p.TestTraffic == nil {
				p.TestTraffic = rules.TestTraffic
			}
			if t.Ports[i].TLS == nil {
				problems = append(problems, p.WithoutTLS()...)
			}
			problems = append(problems, exempt(p, t.Ports[i].PortName)...)
			t.Ports[i].Policy = p
		} else {
			problems = append(problems, p.Misplaced(policy.OfCaller, true)...)
			if t.Policies == nil {
				t.Policies = map[string]*policy.Policy{}
			}
			t.Policies[name] = p
		}
		for _, x := range problems {
			c.bad(at+"."+x.Path, "%s", x.Text)
		}
		c.targets(at, p)
	}
}

// deployment is of all services of the task, unless a policy has its own.
func (c *checker) deployment(at string, d *deployment, t *Task) {
	if d == nil {
		return
	}
	own := &policy.Deployment{Strategy: cmp.Or(d.Strategy, policy.Rolling), Canary: d.CanaryConfiguration, Linear: d.LinearConfiguration}
	for _, x := range own.Problems() {
		c.bad(at+"."+x.Path, "%s", x.Text)
	}
	if own.Strategy == policy.Rolling { // an answer has a bakeTimeInMinutes of 0 then
		return
	}
	if d.BakeTimeInMinutes != nil {
		c.ignore(at+".bakeTimeInMinutes", "is how long ECS keeps the old tasks once the new ones run; let it be as long as calls take to move")
	}
	for i := range t.Ports {
		if t.Ports[i].Policy == nil {
			t.Ports[i].Policy = &policy.Policy{}
		}
		if p := t.Ports[i].Policy; p.Deployment == nil {
			p.Deployment = own
		}
	}
}

// exempt holds the ports that a policy exempts against the one that it is of.
func exempt(p *policy.Policy, portName string) (out []policy.Problem) {
	if !p.Requires() {
		return nil
	}
	for i, name := range p.MutualTLS.Exempt {
		if name != portName {
			out = append(out, policy.Problem{Path: fmt.Sprintf("mutualTls.exempt[%d]", i), Text: quote(name) + " is not the service's portName; allowed: " + portName})
		}
	}
	return out
}

// targets holds the services that routes name against their form.
func (c *checker) targets(at string, p *policy.Policy) {
	for _, name := range p.Targets() {
		if !mesh.ValidDiscoveryName(name) {
			c.bad(at+".routes", "%s; allowed: a discoveryName of this namespace, up to 64 of [a-z0-9_-]%s", quote(name), dotted(name))
		}
	}
}

func dotted(name string) string {
	if short, _, cut := strings.Cut(name, "."); cut {
		return ", such as " + short
	}
	return ""
}

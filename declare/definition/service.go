package definition

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// service holds what concerns the service, and task and service together.
func (c *checker) service() {
	s := c.d.Service
	if n := s.Text("serviceName"); n != "" && !ecsName.MatchString(n) {
		c.badService("serviceName", "%q; allowed: up to 255 of [A-Za-z0-9_-]", n)
	}
	if !s.Has(block) {
		c.badService(block, "is missing; allowed: the block of Service Connect, or {\"enabled\": true} for a service that only calls others")
	}
	if l := s.Text("launchType"); l != "" && !slices.Contains(launches, l) {
		c.badService("launchType", "%q; allowed: %s, as for Service Connect", l, strings.Join(launches, ", "))
	} else if l != "" && len(s.List("capacityProviderStrategy")) > 0 {
		c.badService("launchType", "stands beside capacityProviderStrategy; allowed: one of the two")
	}
	if t := s.Object("deploymentController").Text("type"); t != "" && t != "ECS" {
		c.badService("deploymentController.type", "%q; allowed: ECS, as for Service Connect", t)
	}
	named := s.Object(block).Get("namespace")
	if c.d.InMesh() && c.d.Namespace == "" && (named == nil || named == "") {
		c.badService(block+".namespace", "is missing; allowed: a namespace here, or the cluster's default by --namespace")
	}
	if why, unknown := c.d.ServiceAt.whyUnknown(block + ".namespace"); unknown && c.d.Namespace == "" {
		c.badService(block+".namespace", "%s", why)
	}
	if c.d.Form == CloudFormation && s.Has(policies) {
		c.badService(policies, "is no property of AWS::ECS::Service; allowed: a file of them, by --policies")
	}
	c.unknowns()
	if c.d.Task == nil {
		return
	}
	c.problems = append(c.problems, c.d.Pairs()...)
	c.network()
	c.tls()
	c.balancers()
}

// Pairs says whether the task definition is the one that the service names.
func (d *Definition) Pairs() Problems {
	name, family := d.Service.Text("taskDefinition"), d.Task.Text("family")
	if d.Form != ECS || d.Task == nil || name == "" || family == "" || Family(name) == family {
		return nil
	}
	return Problems{{d.ServiceFile(), d.ServiceAt.Path("taskDefinition"), fmt.Sprintf("%q is not the task definition that was given (%s)", name, family)}}
}

// unknowns names the values of the block that only AWS will know, where the
// task has to know them.
func (c *checker) unknowns() {
	for _, path := range slices.Sorted(maps.Keys(c.d.ServiceAt.Unknown)) {
		if !strings.HasPrefix(path, block+".") || path == block+".namespace" || harmless(path) {
			continue
		}
		c.badService(path, "%s", c.d.ServiceAt.Unknown[path])
	}
}

// harmless are parts of the block that the task need not know: they go where
// AWS puts its value in, or have no effect.
func harmless(path string) bool {
	return strings.HasPrefix(path, block+".logConfiguration.") || strings.HasSuffix(path, ".kmsKey") || strings.HasSuffix(path, ".roleArn")
}

func (c *checker) network() {
	mode, has := c.d.NetworkMode(), c.d.Service.Object("networkConfiguration").Object("awsvpcConfiguration") != nil
	switch {
	case mode == AWSVPC && !c.d.Service.Has("networkConfiguration") && c.d.Service.Has("serviceName"):
		c.badService("networkConfiguration", "is missing; allowed with networkMode awsvpc: awsvpcConfiguration with subnets")
	case mode != AWSVPC && has:
		c.badService("networkConfiguration", "has no meaning with networkMode %s; allowed: none, or networkMode awsvpc", mode)
	}
}

func (c *checker) tls() {
	if c.d.NetworkMode() != Bridge {
		return
	}
	for i, s := range c.d.Service.Object(block).Objects("services") {
		if s.Get("tls") != nil {
			c.badService(fmt.Sprintf("%s.services[%d].tls", block, i), "does not go with networkMode bridge, as in ECS; allowed: networkMode awsvpc, or no tls")
		}
	}
}

func (c *checker) balancers() {
	for i, lb := range c.d.Service.Objects("loadBalancers") {
		path := fmt.Sprintf("loadBalancers[%d]", i)
		if lb.Text("loadBalancerName") != "" {
			c.badService(path+".loadBalancerName", "is a Classic Load Balancer; allowed: targetGroupArn of an Application or Network Load Balancer")
			continue
		}
		name := lb.Text("containerName")
		port, ok := lb.Int("containerPort")
		if name == "" || !ok {
			continue
		}
		var ports []string
		found, fits := false, false
		for _, m := range c.d.Mappings() {
			if m.Container != name {
				continue
			}
			p, _ := m.Fields.Int("containerPort")
			ports, fits = append(ports, fmt.Sprint(p)), fits || p == port
		}
		for _, o := range c.d.Containers() {
			found = found || o.Text("name") == name
		}
		switch {
		case !found:
			c.badService(path+".containerName", "%q is no container of the task; allowed: %s", name, c.names())
		case !fits:
			c.badService(path+".containerPort", "%d is no port mapping of %s; allowed: %s", port, name, orNone(ports))
		}
	}
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none, it has no port mappings"
	}
	return strings.Join(list, ", ")
}

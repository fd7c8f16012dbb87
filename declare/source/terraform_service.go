package source

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// single are the blocks that stand at most once, and are objects in ECS.
var single = map[string]bool{
	"service_connect_configuration": true, "timeout": true, "tls": true, "issuer_cert_authority": true,
	"log_configuration": true, "access_log_configuration": true, "test_traffic_rules": true, "header": true, "value": true,
	"network_configuration": true, "deployment_controller": true, "docker_volume_configuration": true,
	"efs_volume_configuration": true, "authorization_config": true, "fsx_windows_file_server_volume_configuration": true,
	"managed_ebs_volume": true, "deployment_configuration": true, "canary_configuration": true, "linear_configuration": true,
	"advanced_configuration": true,
}

// convert turns blocks and arguments into ECS's words. What is not set is left
// out.
func convert(v any) any {
	switch v := v.(type) {
	case *tree.Object:
		o := &tree.Object{}
		for _, key := range v.Keys() {
			e := v.Get(key)
			if list, ok := e.([]any); ok {
				if len(list) == 0 {
					continue
				}
				if single[key] && len(list) == 1 {
					e = list[0]
				}
			}
			switch {
			case e == nil, e == "":
			case key == "tags":
				if list := tagList(v); list != nil {
					o.Set(key, list)
				}
			case free[camel(key)]:
				o.Set(camel(key), e)
			default:
				o.Set(camel(key), convert(e))
			}
		}
		return o
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = convert(e)
		}
		return list
	default:
		return v
	}
}

func (p *plan) service(r resource) *definition.Definition {
	v := r.values
	d := &definition.Definition{Form: definition.Terraform, ServiceKey: r.address, ServiceAt: p.place(r), Service: &tree.Object{}, Name: v.Text("name")}
	s := d.Service
	if name := v.Text("name"); name != "" {
		s.Set("serviceName", name)
	}
	move(s, v, "cluster", "task_definition", "desired_count", "launch_type", "platform_version", "scheduling_strategy",
		"availability_zone_rebalancing", "health_check_grace_period_seconds", "propagate_tags", "enable_execute_command")
	if on, ok := v.Get("enable_ecs_managed_tags").(bool); ok {
		s.Set("enableECSManagedTags", on)
	}
	if role := v.Text("iam_role"); role != "" {
		s.Set("role", role)
	}
	d.ServiceAt.At["serviceName"] = stand(r.address+".name", nil)
	if n := first(v, "network_configuration"); n != nil {
		c, _ := convert(n).(*tree.Object)
		if public, ok := c.Get("assignPublicIp").(bool); ok {
			c.Set("assignPublicIp", map[bool]string{true: "ENABLED", false: "DISABLED"}[public])
		}
		s.Set("networkConfiguration", tree.Of("awsvpcConfiguration", c))
	}
	for _, key := range []string{"load_balancer", "service_registries", "capacity_provider_strategy", "ordered_placement_strategy", "placement_constraints",
		"volume_configuration", "vpc_lattice_configurations"} {
		if list := v.List(key); len(list) > 0 {
			s.Set(camel(key), convert(list))
		}
	}
	deployment(d, v)
	if tags := tagList(v); tags != nil {
		s.Set("tags", tags)
	}
	unknownPaths(r.unknown, "", d.ServiceAt.Unknown)
	if b := first(v, "service_connect_configuration"); b != nil {
		config := first(r.config, "service_connect_configuration")
		s.Set(block, convert(b))
		paths(d, r.address, b)
		p.zeros(r, d, config)
		p.unset(d, b.Objects("service"), config)
		p.namespace(r, d, config)
	}
	return d
}

// paths are where the blocks stand: Terraform counts also those that stand once.
func paths(d *definition.Definition, address string, b *tree.Object) {
	at := d.ServiceAt.At
	root := address + ".service_connect_configuration[0]"
	at[block] = stand(root, snake)
	for _, key := range []string{"log_configuration", "access_log_configuration"} {
		at[block+"."+camel(key)] = stand(root+"."+key+"[0]", snake)
	}
	for i, s := range b.Objects("service") {
		ecs, own := fmt.Sprintf("%s.services[%d]", block, i), fmt.Sprintf("%s.service[%d]", root, i)
		at[ecs+".timeout"] = stand(own+".timeout[0]", snake)
		at[ecs+".tls"] = stand(own+".tls[0]", snake)
		at[ecs+".tls.issuerCertificateAuthority"] = stand(own+".tls[0].issuer_cert_authority[0]", snake)
		for j := range s.Objects("client_alias") {
			rules := fmt.Sprintf("%s.clientAliases[%d].testTrafficRules", ecs, j)
			rule := fmt.Sprintf("%s.client_alias[%d].test_traffic_rules[0]", own, j)
			at[rules] = stand(rule, snake)
			at[rules+".header"] = stand(rule+".header[0]", snake)
			at[rules+".header.value"] = stand(rule+".header[0].value[0]", snake)
		}
	}
}

func deployment(d *definition.Definition, v *tree.Object) {
	s := d.Service
	c := &tree.Object{}
	for _, key := range []string{"maximum_percent", "minimum_healthy_percent"} {
		if n, ok := v.Get("deployment_" + key).(json.Number); ok {
			c.Set(camel(key), n)
		}
	}
	if b, _ := convert(first(v, "deployment_configuration")).(*tree.Object); b != nil {
		numbers(b) // the provider keeps the bake time as a text
		for _, key := range b.Keys() {
			c.Set(key, b.Get(key))
		}
		root := d.ServiceKey + ".deployment_configuration[0]"
		d.ServiceAt.At["deploymentConfiguration"] = stand(root, snake)
		for _, key := range []string{"canary_configuration", "linear_configuration"} {
			d.ServiceAt.At["deploymentConfiguration."+camel(key)] = stand(root+"."+key+"[0]", snake)
		}
	}
	if b := first(v, "deployment_circuit_breaker"); b != nil {
		c.Set("deploymentCircuitBreaker", convert(b))
	}
	if b := first(v, "alarms"); b != nil {
		c.Set("alarms", convert(b))
	}
	if b := first(v, "deployment_controller"); b != nil {
		s.Set("deploymentController", convert(b))
	}
	if len(c.Keys()) > 0 {
		s.Set("deploymentConfiguration", c)
	}
}

// unknownPaths notes where a plan says true: known after apply.
func unknownPaths(v any, path string, into map[string]string) {
	switch v := v.(type) {
	case bool:
		if v && path != "" {
			into[path] = afterApply
		}
	case *tree.Object:
		for _, key := range v.Keys() {
			e := v.Get(key)
			if list, ok := e.([]any); ok && single[key] && len(list) == 1 {
				e = list[0]
			}
			unknownPaths(e, strings.TrimPrefix(path+"."+camel(key), "."), into)
		}
	case []any:
		for i, e := range v {
			unknownPaths(e, fmt.Sprintf("%s[%d]", path, i), into)
		}
	}
}

// targets finds what the plan has of the target groups and their listeners.
func (p *plan) targets(r resource, d *definition.Definition) {
	blocks := r.config.Objects("load_balancer")
	for i, lb := range r.values.Objects("load_balancer") {
		var refs []string
		if i < len(blocks) {
			refs = references(blocks[i], "target_group_arn")
		}
		for _, group := range p.resources {
			if group.kind != "aws_lb_target_group" && group.kind != "aws_alb_target_group" {
				continue
			}
			arn := lb.Text("target_group_arn")
			if arn != "" && arn == group.values.Text("arn") || group.module == r.module && refersTo(refs, group.address) {
				if d.Targets == nil {
					d.Targets = map[int]definition.Target{}
				}
				d.Targets[i] = p.target(group)
			}
		}
	}
}

// refersTo reports whether one of the references is to a resource.
func refersTo(refs []string, address string) bool {
	address = indices.ReplaceAllString(address, "")
	return slices.ContainsFunc(refs, func(ref string) bool {
		ref = indices.ReplaceAllString(ref, "")
		return ref == address || strings.HasSuffix(address, "."+ref) || strings.HasPrefix(ref+".", address+".")
	})
}

func (p *plan) target(group resource) definition.Target {
	t := definition.Target{Protocol: group.values.Text("protocol"), HealthCheck: first(group.values, "health_check").Text("protocol")}
	t.ProxyProtocol, _ = group.values.Get("proxy_protocol_v2").(bool)
	for _, l := range p.resources {
		if l.kind != "aws_lb_listener" && l.kind != "aws_alb_listener" || l.module != group.module {
			continue
		}
		for _, action := range l.config.Objects("default_action") {
			if refersTo(references(action, "target_group_arn"), group.address) {
				if policy := l.values.Text("ssl_policy"); policy != "" {
					t.Policies = append(t.Policies, policy)
				}
			}
		}
	}
	t.Balancer = balancerOf(t.Protocol)
	return t
}

// balancerOf is the kind of load balancer that has such target groups.
func balancerOf(protocol string) string {
	switch protocol {
	case "HTTP", "HTTPS":
		return "application"
	case "TCP", "TLS", "UDP", "TCP_UDP":
		return "network"
	}
	return ""
}

package source

import (
	"fmt"
	"strings"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// zeros takes numbers away that are 0 because nobody wrote them. Of a service that
// is yet to be made the provider writes null there, so that 0 means 0. Otherwise
// the configuration tells; where it does not show the block (it is dynamic, or this
// is a state), 0 counts as not written, and that is noted.
func (p *plan) zeros(r resource, d *definition.Definition, config *tree.Object) {
	services, blocks := d.Service.Object(block).Objects("services"), config.Objects("service")
	shown := len(blocks) == len(services)
	for i, s := range services {
		if n, ok := s.Int("ingressPortOverride"); ok && n == 0 {
			s.Delete("ingressPortOverride")
		}
		timeout := s.Object("timeout")
		for _, key := range []string{"idleTimeoutSeconds", "perRequestTimeoutSeconds"} {
			if n, ok := timeout.Int(key); !ok || n != 0 || r.created || shown && first(blocks[i], "timeout").Has(snake(key)) {
				continue
			}
			timeout.Delete(key)
			if path := fmt.Sprintf("%s.services[%d].timeout.%s", block, i, key); !shown {
				d.Notes = append(d.Notes, definition.Problem{File: p.file, Path: d.ServicePath(path), Text: "is 0, and may be so because nobody wrote it: it was taken as not written, and ECS's default holds"})
			}
		}
		if timeout != nil && len(timeout.Keys()) == 0 {
			s.Delete("timeout")
		}
	}
}

// unset takes away what a plan calls unknown because nobody wrote it: the provider
// computes these names, and ECS's defaults hold. Where the configuration does not
// show the block (it is dynamic) that is taken for granted, and noted.
func (p *plan) unset(d *definition.Definition, services []*tree.Object, config *tree.Object) {
	unknown, blocks := d.ServiceAt.Unknown, config.Objects("service")
	shown := len(blocks) == len(services)
	look := func(path, key string, c *tree.Object) {
		if _, is := unknown[path]; !is || shown && c.Has(key) {
			return
		}
		delete(unknown, path)
		if !shown {
			d.Notes = append(d.Notes, definition.Problem{File: p.file, Path: d.ServicePath(path), Text: "stands in a dynamic block and is not known yet: it was taken as not written, and ECS's default holds"})
		}
	}
	for i, s := range services {
		var c *tree.Object
		if shown {
			c = blocks[i]
		}
		at := fmt.Sprintf("%s.services[%d]", block, i)
		look(at+".discoveryName", "discovery_name", c)
		for j := range s.Objects("client_alias") {
			var alias *tree.Object
			if list := c.Objects("client_alias"); j < len(list) {
				alias = list[j]
			}
			look(fmt.Sprintf("%s.clientAliases[%d].dnsName", at, j), "dns_name", alias)
		}
	}
}

// namespace finds the name of a namespace that the same plan makes: its ARN is
// known after apply only, and ECS takes names as well.
func (p *plan) namespace(r resource, d *definition.Definition, config *tree.Object) {
	const path = block + ".namespace"
	sc := d.Service.Object(block)
	if sc.Text("namespace") != "" {
		return
	}
	if config.Has("namespace") {
		if name := p.named(prefixOf(r.module), references(config, "namespace"), 0); name != "" {
			sc.Set("namespace", name)
			delete(d.ServiceAt.Unknown, path)
		}
		return
	}
	if config == nil || p.options.Namespace != "" {
		return
	}
	delete(d.ServiceAt.Unknown, path) // not written: the cluster's default
	for _, c := range p.resources {
		if c.kind != "aws_ecs_cluster" || c.module != r.module || !refersTo(references(r.config, "cluster"), c.address) {
			continue
		}
		name := first(c.values, "service_connect_defaults").Text("namespace")
		if name == "" {
			name = p.named(prefixOf(c.module), references(first(c.config, "service_connect_defaults"), "namespace"), 0)
		}
		if name != "" {
			sc.Set("namespace", name)
		}
	}
}

// prefixOf is a module's address as those of its resources begin, without indices.
func prefixOf(module string) string {
	if module == "" {
		return ""
	}
	return indices.ReplaceAllString(module, "") + "."
}

// maxModules bounds how far a value is followed through modules.
const maxModules = 50

// named is the name of the one namespace that references lead to; empty if there is
// none, or more than one.
func (p *plan) named(prefix string, refs []string, depth int) string {
	found := map[string]bool{}
	for _, ref := range refs {
		kind, rest, _ := strings.Cut(indices.ReplaceAllString(ref, ""), ".")
		name, attribute, _ := strings.Cut(rest, ".")
		switch {
		case depth > maxModules:
		case kind == "var":
			above := strings.TrimSuffix(prefix, ".")
			above = above[:max(strings.LastIndex(above, "module."), 0)]
			found[p.named(above, references(p.calls[prefix], name), depth+1)] = true
		case kind == "module" && attribute != "":
			inner := prefix + "module." + name + "."
			output, _, _ := strings.Cut(attribute, ".")
			found[p.named(inner, references(p.outputs[inner].Object(output), "expression"), depth+1)] = true
		case strings.HasPrefix(kind, "aws_service_discovery_") && strings.HasSuffix(kind, "_namespace"):
			for _, r := range p.resources {
				if indices.ReplaceAllString(r.address, "") == prefix+kind+"."+name {
					found[r.values.Text("name")] = true
				}
			}
		}
	}
	delete(found, "")
	if len(found) != 1 {
		return ""
	}
	for name := range found {
		return name
	}
	return ""
}

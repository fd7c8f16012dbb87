package ecs

import (
	"fmt"
	"strings"

	"patchbay/declare/tree"
)

// hcl is what a person has to change in Terraform's own files: all that the
// result has otherwise than the plan.
func (in *inject) hcl() []byte {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# What patchbay inject ecs changes, for the files of Terraform. Copy it there by hand.")
	p("")
	p("# %s", in.d.TaskKey)
	p("container_definitions = jsonencode(jsondecode(file(\"${path.module}/%s.task-definition.json\")).containerDefinitions)", strings.ReplaceAll(in.d.Name, "/", "-"))
	for _, key := range []string{"cpu", "memory"} {
		if in.out.Has(key) && !tree.Equal(in.out.Get(key), in.d.Task.Get(key)) {
			p("%s%s = %q", key, strings.Repeat(" ", len("container_definitions")-len(key)), in.out.Text(key))
		}
	}
	p("")
	p("# %s", in.d.ServiceKey)
	p("# in the place of its block, as Terraform would leave unchanged what is not there:")
	p("service_connect_configuration {")
	p("  enabled = false")
	p("}")
	for i, lb := range in.d.Service.Objects("loadBalancers") {
		port, ours := in.d.Aimed(in.task, i)
		if !ours {
			continue
		}
		p("# in the place of the block that is aimed at port %s of %s; its target_group_arn stays:", tree.Line(lb.Get("containerPort")), lb.Text("containerName"))
		p("load_balancer {")
		arn := `"…"`
		if lb.Text("targetGroupArn") != "" {
			arn = fmt.Sprintf("%q", lb.Text("targetGroupArn"))
		}
		p("  target_group_arn = %s", arn)
		p("  container_name   = %q", Sidecar)
		p("  container_port   = %d", port.IngressPort)
		p("}")
	}
	return []byte(b.String())
}

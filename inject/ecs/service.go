package ecs

import (
	"cmp"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// serviceAnswerOnly are what describe-services prints and create-service
// refuses.
var serviceAnswerOnly = []string{
	"serviceArn", "clusterArn", "status", "runningCount", "pendingCount", "deployments", "taskSets", "events",
	"createdAt", "createdBy", "roleArn", "platformFamily", "currentServiceDeployment", "currentServiceRevisions", "resourceManagementType",
}

// notUpdated are what create-service takes and update-service does not.
var notUpdated = []string{"launchType", "schedulingStrategy", "role", "clientToken", "tags"}

// serviceOf is a copy of the service with what the API demands and other forms
// leave out: its name, and its task definition by family.
func serviceOf(d *definition.Definition) *tree.Object {
	s := d.Service.Clone()
	if d.Form == definition.ECS {
		return s
	}
	if _, text := s.Get("taskDefinition").(string); !text {
		s.Set("taskDefinition", d.Task.Text("family"))
	}
	if !s.Has("serviceName") && !d.Exists {
		s.SetAt(0, "serviceName", d.Name)
	}
	return s
}

// makeService is the service without Service Connect, so that ECS adds no
// second sidecar.
func (in *inject) makeService() {
	if in.d.Form == definition.CloudFormation {
		in.service = in.templateService()
		return
	}
	s := serviceOf(in.d)
	cluster := cmp.Or(s.Text("cluster"), s.Text("clusterArn"))
	s.Delete(serviceAnswerOnly...)
	s.Delete(block, policies)
	family := in.out.Text("family")
	if in.d.Exists {
		s.Delete(notUpdated...)
		if s.Has("desiredCount") {
			in.change(false, "desiredCount", "is left out, as update-service would set it back, against autoscaling; add it to set it")
			s.Delete("desiredCount")
		}
		name := s.Text("serviceName")
		s.Delete("serviceName")
		s.SetAt(0, "service", name)
		s.Set(block, tree.Of("enabled", false)) // absent would mean unchanged
		if n, ok := s.Int("healthCheckGracePeriodSeconds"); ok && n == 0 {
			s.Delete("healthCheckGracePeriodSeconds") // an answer has it always, and ECS takes it only beside a load balancer
		}
	}
	if cluster != "" && !s.Has("cluster") {
		s.SetAt(0, "cluster", cluster)
	}
	if in.d.Form == definition.ECS {
		s.Set("taskDefinition", family)
	}
	for i, lb := range s.Objects("loadBalancers") {
		if p, ok := in.d.Aimed(in.task, i); ok {
			lb.Set("containerName", Sidecar)
			lb.Set("containerPort", tree.Number(int(p.IngressPort)))
		}
	}
	in.service = s
}

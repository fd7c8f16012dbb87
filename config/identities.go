package config

import (
	"regexp"
	"slices"
	"strconv"
)

var (
	taskRoleForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/([\w+=,.@/-]*/)?[\w+=,.@-]{1,64}$`)
	ecsForm      = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
)

func (k *checker) identities(c Config) {
	t := c.Identities.TaskRoles
	if t == nil {
		return
	}
	at := "identities.taskRoles"
	for name, url := range map[string]string{".stsEndpoint": t.STSEndpoint, ".ecsEndpoint": t.ECSEndpoint} {
		if url != "" {
			k.url(at+name, url, "http", "https")
		}
	}
	if len(t.Workloads) == 0 {
		k.bad(at+".workloads", "is missing; allowed: a list of {namespace: …, workload: …, discoveryNames: […], role: ARN, cluster: …, service: …}")
	}
	seen := map[string]bool{}
	for i, w := range t.Workloads {
		at := at + ".workloads[" + strconv.Itoa(i) + "]"
		if !slices.Contains(c.Namespaces, w.Namespace) {
			k.bad(at+".namespace", "%s; allowed: one of namespaces", quote(w.Namespace))
		}
		if !ecsForm.MatchString(w.Workload) {
			k.bad(at+".workload", "%s; allowed: the name of a workload", quote(w.Workload))
		}
		if !taskRoleForm.MatchString(w.Role) {
			k.bad(at+".role", "%s; allowed: the ARN of the task role, arn:aws:iam::ACCOUNT:role/NAME", quote(w.Role))
		}
		if !ecsForm.MatchString(w.Cluster) {
			k.bad(at+".cluster", "%s; allowed: the name of an ECS cluster, not its ARN", quote(w.Cluster))
		}
		if w.Service != "" && !ecsForm.MatchString(w.Service) {
			k.bad(at+".service", "%s; allowed: the name of an ECS service, not its ARN", quote(w.Service))
		}
		if name := w.Namespace + "/" + w.Workload; seen[name] {
			k.bad(at+".workload", "%s stands twice; allowed: each workload once", quote(name))
		} else {
			seen[name] = true
		}
	}
}

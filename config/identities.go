package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patchbay/config/strict"
)

// Identities are the workloads whose tasks join without a join key.
type Identities struct {
	TaskRoles     *TaskRoles     `yaml:"taskRoles"`
	InstanceRoles *InstanceRoles `yaml:"instanceRoles"`
}

// TaskRoles lets tasks of ECS services join by their IAM role.
type TaskRoles struct {
	Region      string     `yaml:"region"`      // of the tasks; empty: as the AWS SDK finds it
	STSEndpoint string     `yaml:"stsEndpoint"` // empty: AWS's own for the region
	ECSEndpoint string     `yaml:"ecsEndpoint"` // empty: AWS's own for the region
	Workloads   []TaskRole `yaml:"workloads"`
}

// TaskRole says which workload the tasks of an ECS service are.
type TaskRole struct {
	Namespace      string   `yaml:"namespace"`
	Workload       string   `yaml:"workload"`
	DiscoveryNames []string `yaml:"discoveryNames"` // empty: client-only
	Role           string   `yaml:"role"`           // ARN of the task role
	Cluster        string   `yaml:"cluster"`
	Service        string   `yaml:"service"` // empty: the workload's name
}

// InstanceRoles lets EC2 instances join by the IAM role of their instance
// profile.
type InstanceRoles struct {
	Region      string         `yaml:"region"`      // of the instances; empty: as the AWS SDK finds it
	STSEndpoint string         `yaml:"stsEndpoint"` // empty: AWS's own for the region
	EC2Endpoint string         `yaml:"ec2Endpoint"` // empty: AWS's own for the region
	Workloads   []InstanceRole `yaml:"workloads"`
}

// InstanceRole says which workload the instances of a role are.
type InstanceRole struct {
	Namespace      string   `yaml:"namespace"`
	Workload       string   `yaml:"workload"`
	DiscoveryNames []string `yaml:"discoveryNames"` // empty: client-only
	Role           string   `yaml:"role"`           // ARN
	// InstanceProfile is its ARN; empty: any that is named like the role, in
	// the role's account.
	InstanceProfile string `yaml:"instanceProfile"`
}

var (
	roleForm    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/([\w+=,.@/-]*/)?[\w+=,.@-]{1,64}$`)
	profileForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:instance-profile/([\w+=,.@/-]*/)?[\w+=,.@-]{1,128}$`)
	ecsForm     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
)

func (k *checker) identities(c Config) {
	if t := c.Identities.TaskRoles; t != nil {
		k.taskRoles(c, t)
	}
	if i := c.Identities.InstanceRoles; i != nil {
		k.instanceRoles(c, i)
	}
}

func (k *checker) taskRoles(c Config, t *TaskRoles) {
	const at = "identities.taskRoles"
	k.endpoints(at, map[string]string{".stsEndpoint": t.STSEndpoint, ".ecsEndpoint": t.ECSEndpoint})
	if len(t.Workloads) == 0 {
		k.Bad(at+".workloads", "is missing; allowed: a list of {namespace: …, workload: …, discoveryNames: […], role: ARN, cluster: …, service: …}")
	}
	seen := map[string]bool{}
	for i, w := range t.Workloads {
		at := at + ".workloads[" + strconv.Itoa(i) + "]"
		k.workload(c, at, w.Namespace, w.Workload, seen)
		if !roleForm.MatchString(w.Role) {
			k.Bad(at+".role", "%s; allowed: the ARN of the task role, arn:aws:iam::ACCOUNT:role/NAME", strict.Quote(w.Role))
		}
		if !ecsForm.MatchString(w.Cluster) {
			k.Bad(at+".cluster", "%s; allowed: the name of an ECS cluster, not its ARN", strict.Quote(w.Cluster))
		}
		if w.Service != "" && !ecsForm.MatchString(w.Service) {
			k.Bad(at+".service", "%s; allowed: the name of an ECS service, not its ARN", strict.Quote(w.Service))
		}
	}
}

func (k *checker) instanceRoles(c Config, r *InstanceRoles) {
	const at = "identities.instanceRoles"
	k.endpoints(at, map[string]string{".stsEndpoint": r.STSEndpoint, ".ec2Endpoint": r.EC2Endpoint})
	if len(r.Workloads) == 0 {
		k.Bad(at+".workloads", "is missing; allowed: a list of {namespace: …, workload: …, discoveryNames: […], role: ARN, instanceProfile: ARN}")
	}
	seen := map[string]bool{}
	for i, w := range r.Workloads {
		at := at + ".workloads[" + strconv.Itoa(i) + "]"
		k.workload(c, at, w.Namespace, w.Workload, seen)
		if !roleForm.MatchString(w.Role) {
			k.Bad(at+".role", "%s; allowed: the ARN of the instances' role, arn:aws:iam::ACCOUNT:role/NAME", strict.Quote(w.Role))
		}
		if w.InstanceProfile != "" && !profileForm.MatchString(w.InstanceProfile) {
			k.Bad(at+".instanceProfile", "%s; allowed: the ARN of the instance profile, arn:aws:iam::ACCOUNT:instance-profile/NAME", strict.Quote(w.InstanceProfile))
		}
	}
}

func (k *checker) endpoints(at string, urls map[string]string) {
	for name, url := range urls {
		if url != "" {
			k.url(at+name, url, "http", "https")
		}
	}
}

// workload checks who joins; seen are those before.
func (k *checker) workload(c Config, at, namespace, workload string, seen map[string]bool) {
	if !slices.Contains(c.Namespaces, namespace) {
		k.Bad(at+".namespace", "%s; allowed: one of namespaces", strict.Quote(namespace))
	}
	if !ecsForm.MatchString(workload) {
		k.Bad(at+".workload", "%s; allowed: the name of a workload", strict.Quote(workload))
	}
	name := namespace + "/" + workload
	if seen[name] {
		k.Bad(at+".workload", "%s stands twice; allowed: each workload once", strict.Quote(name))
	}
	seen[name] = true
}

// Admits is nil if identities lets a workload in by its role, as a task
// (taskRoles) or as an instance (instanceRoles: the keys below identities), with
// these discoveryNames. The error names the key, and what is to stand there.
func (c Config) Admits(key, namespace, workload string, discoveryNames []string) error {
	listed, name := c.Identities.listed(key), strings.ToLower(namespace)+"/"+workload
	offers, ok := listed[name]
	if !ok {
		has, more := "nobody", ""
		if len(listed) > 0 {
			has = strings.Join(slices.Sorted(maps.Keys(listed)), ", ")
		}
		if key == "taskRoles" {
			more = ", cluster: CLUSTER"
		}
		return fmt.Errorf("identities.%s.workloads: names %s, and not %s; add {namespace: %s, workload: %s, discoveryNames: [%s], role: ARN%s}",
			key, has, name, namespace, workload, strings.Join(discoveryNames, ", "), more)
	}
	var missing []string
	for _, n := range discoveryNames {
		if !slices.Contains(offers, n) {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("identities.%s.workloads: lets %s offer %q, and not %q; add them to its discoveryNames", key, name, offers, missing)
	}
	return nil
}

// listed are the workloads of a key, each with the discoveryNames that it may
// offer.
func (i Identities) listed(key string) map[string][]string {
	all := map[string][]string{}
	switch {
	case key == "taskRoles" && i.TaskRoles != nil:
		for _, w := range i.TaskRoles.Workloads {
			all[strings.ToLower(w.Namespace)+"/"+w.Workload] = w.DiscoveryNames
		}
	case key == "instanceRoles" && i.InstanceRoles != nil:
		for _, w := range i.InstanceRoles.Workloads {
			all[strings.ToLower(w.Namespace)+"/"+w.Workload] = w.DiscoveryNames
		}
	}
	return all
}

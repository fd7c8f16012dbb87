package taskrole

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"

	"patchbay/internal/iam"
	"patchbay/mesh"
)

// Role says which workload the tasks of an ECS service are.
type Role struct {
	Workload mesh.Workload
	ARN      string // arn:aws:iam::ACCOUNT:role/PATH/NAME
	Cluster  string // name
	Service  string // name of the ECS service
}

// is reports whether the caller has this role. The ARN of an assumed role
// leaves out the role's path; names are unique in an account.
func (r Role) is(c Caller) bool {
	parts := strings.SplitN(r.ARN, ":", 6)
	name := r.ARN[strings.LastIndexByte(r.ARN, '/')+1:]
	return len(parts) == 6 && parts[4] == c.Account && name == c.Role
}

// API is the part of ECS that this package uses. The AWS SDK's client has it.
type API interface {
	DescribeTasks(context.Context, *ecs.DescribeTasksInput, ...func(*ecs.Options)) (*ecs.DescribeTasksOutput, error)
	DescribeTaskDefinition(context.Context, *ecs.DescribeTaskDefinitionInput, ...func(*ecs.Options)) (*ecs.DescribeTaskDefinitionOutput, error)
}

// Tasks admits tasks by their role. It is safe for concurrent use.
type Tasks struct {
	verifier *Verifier
	api      API
	roles    []Role
}

// NewTasks touches nothing outside.
func NewTasks(v *Verifier, api API, roles []Role) *Tasks { return &Tasks{v, api, roles} }

// Workloads are those that tasks can be by their role.
func (t *Tasks) Workloads() []mesh.Workload {
	out := make([]mesh.Workload, len(t.roles))
	for i, r := range t.roles {
		out[i] = r.Workload
	}
	return out
}

// find is the role of a workload.
func (t *Tasks) find(w mesh.Workload) (Role, error) {
	i := slices.IndexFunc(t.roles, func(r Role) bool { return r.Workload.String() == w.String() })
	if i < 0 {
		return Role{}, refuse("workload %.200s has no role: name it in identities.taskRoles of the control plane's file", w)
	}
	return t.roles[i], nil
}

// Admit returns the workload of a task that has proved its role, and until
// when its proof (which id names) must be remembered as used. from is where the
// task connects from.
func (t *Tasks) Admit(ctx context.Context, proof string, csrDER []byte, claimed mesh.Node, from netip.Addr, now time.Time) (w mesh.Workload, id string, expires time.Time, err error) {
	role, err := t.find(claimed.Workload)
	if err != nil {
		return w, "", expires, err
	}
	c, err := t.verifier.Verify(ctx, proof, csrDER, now)
	switch {
	case err != nil:
		return w, "", expires, err
	case !role.is(c):
		return w, "", expires, refuse("the caller is %s; workload %s is role %s", c.ARN, role.Workload, role.ARN)
	case c.Session != claimed.Task:
		return w, "", expires, refuse("AWS says that it is task %s, it says that it is %.80q", c.Session, claimed.Task)
	}
	if err := t.running(ctx, role, c.Session, from); err != nil {
		return w, "", expires, err
	}
	return role.Workload, c.Signature, c.Expires, nil
}

// Enrol is Admit for one use: claim is asked last whether the proof is new.
func (t *Tasks) Enrol(ctx context.Context, proof string, csrDER []byte, claimed mesh.Node, from netip.Addr, now time.Time, claim func(ctx context.Context, id string, until, now time.Time) (bool, error)) (mesh.Node, error) {
	w, id, expires, err := t.Admit(ctx, proof, csrDER, claimed, from, now)
	if err != nil {
		return mesh.Node{}, err
	}
	first, err := claim(ctx, "role#"+id, expires, now)
	if err == nil && !first {
		err = refuse("it was used before; an agent makes a new one for each attempt")
	}
	return mesh.Node{Workload: w, Task: claimed.Task}, err
}

// Still returns nil while a node that was admitted is a running task of its
// service. from is where it connects from.
func (t *Tasks) Still(ctx context.Context, n mesh.Node, from netip.Addr) error {
	role, err := t.find(n.Workload)
	if err != nil {
		return err
	}
	return t.running(ctx, role, n.Task, from)
}

// running asks ECS for the task and holds it against what it should be.
func (t *Tasks) running(ctx context.Context, role Role, id string, from netip.Addr) error {
	out, err := t.api.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &role.Cluster, Tasks: []string{id}})
	if err != nil {
		return explain("DescribeTasks", role, err)
	}
	if len(out.Tasks) != 1 {
		return refuse("ECS has no task %s in cluster %s", id, role.Cluster)
	}
	task := out.Tasks[0]
	arn, last, desired := aws.ToString(task.TaskArn), aws.ToString(task.LastStatus), aws.ToString(task.DesiredStatus)
	switch group := aws.ToString(task.Group); {
	case !strings.HasSuffix(arn, "/"+id):
		return refuse("ECS answers with task %.200s", arn)
	case last != "PENDING" && last != "ACTIVATING" && last != "RUNNING" || desired != "RUNNING":
		return refuse("task %s is %s and is to be %s; allowed: a task that starts or runs", id, last, desired)
	case group != "service:"+role.Service:
		return refuse("task %s is of %.100q; workload %s is service:%s", id, group, role.Workload, role.Service)
	}
	if err := t.hasRole(ctx, role, task); err != nil {
		return err
	}
	return comesFrom(task, id, from)
}

// describeMost is how many tasks ECS describes at once.
const describeMost = 100

// Gone returns those among the tasks of a workload that have ended: ECS does
// not know them any more, or has stopped them. Others are there, or ECS can't
// say. The error says what to do; then nothing is known of any.
func (t *Tasks) Gone(ctx context.Context, w mesh.Workload, tasks []string) (map[string]bool, error) {
	role, err := t.find(w)
	if err != nil {
		return nil, err
	}
	gone := map[string]bool{}
	for some := range slices.Chunk(tasks, describeMost) {
		out, err := t.api.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &role.Cluster, Tasks: some})
		if err != nil {
			return nil, explain("DescribeTasks", role, err)
		}
		for _, f := range out.Failures {
			if arn := aws.ToString(f.Arn); aws.ToString(f.Reason) == "MISSING" {
				gone[arn[strings.LastIndexByte(arn, '/')+1:]] = true
			}
		}
		for _, task := range out.Tasks {
			if arn := aws.ToString(task.TaskArn); aws.ToString(task.LastStatus) == "STOPPED" {
				gone[arn[strings.LastIndexByte(arn, '/')+1:]] = true
			}
		}
	}
	return gone, nil
}

// hasRole refuses a task that has another role than its signature's.
func (t *Tasks) hasRole(ctx context.Context, role Role, task types.Task) error {
	var has string
	if task.Overrides != nil {
		has = aws.ToString(task.Overrides.TaskRoleArn)
	}
	if has == "" {
		out, err := t.api.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: task.TaskDefinitionArn})
		if err != nil {
			return explain("DescribeTaskDefinition", role, err)
		}
		if out.TaskDefinition != nil {
			has = aws.ToString(out.TaskDefinition.TaskRoleArn)
		}
	}
	if has != role.ARN {
		return refuse("task %s has role %.200q; workload %s is %s", aws.ToString(task.TaskArn), has, role.Workload, role.ARN)
	}
	return nil
}

// comesFrom refuses a connection from another address than the task's.
func comesFrom(task types.Task, id string, from netip.Addr) error {
	var has []string
	for _, a := range task.Attachments {
		for _, d := range a.Details {
			if name := aws.ToString(d.Name); name == "privateIPv4Address" || name == "privateIPv6Address" {
				has = append(has, aws.ToString(d.Value))
			}
		}
	}
	if len(has) == 0 {
		return refuse("task %s has no network interface of its own (network mode awsvpc), so its address can't be checked: let it join with a join key", id)
	}
	for _, a := range has {
		if addr, err := netip.ParseAddr(a); err == nil && addr == from.Unmap() {
			return nil
		}
	}
	return refuse("task %s has address %s, but the connection comes from %s. If that is a load balancer, it hides its clients: switch client IP preservation on for its target group, or PROXY protocol v2 there and agent.proxyProtocol here", id, strings.Join(has, ", "), from)
}

// explain says what to do about an error of ECS.
func explain(operation string, role Role, err error) error {
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "ClusterNotFoundException" {
		return refuse("there is no ECS cluster %s: compare identities.taskRoles with ECS", role.Cluster)
	}
	return fmt.Errorf("%s: %w", operation, iam.Explain(err, "ecs:"+operation, ""))
}

package taskrole

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// API is the part of ECS that this package uses. The AWS SDK's client has it.
type API interface {
	DescribeTasks(context.Context, *ecs.DescribeTasksInput, ...func(*ecs.Options)) (*ecs.DescribeTasksOutput, error)
	DescribeTaskDefinition(context.Context, *ecs.DescribeTaskDefinitionInput, ...func(*ecs.Options)) (*ecs.DescribeTaskDefinitionOutput, error)
}

// ofECS is ECS as far as tasks are known there.
type ofECS struct{ api API }

// Tasks are tasks of ECS. It touches nothing outside.
func Tasks(v *Verifier, api API, roles []Role) *Kind {
	return &Kind{KeyID, v, ofECS{api}, roles}
}

// running asks ECS for the task and holds it against what it should be.
func (t ofECS) running(ctx context.Context, role Role, id string, from netip.Addr) error {
	out, err := t.api.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &role.Cluster, Tasks: []string{id}})
	if err != nil {
		return explainECS("DescribeTasks", role, err)
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
	return atItsAddress(task, id, from)
}

// describeMost is how many are asked about at once: ECS describes 100 tasks,
// EC2 takes 200 values of a filter.
const describeMost = 100

// taskForm is the form of task ids: today's, and that of before 2018.
var taskForm = regexp.MustCompile(`^([0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

// gone asks for those alone that ECS can know: one id of another form, such as
// a host name, and it would answer for none.
func (t ofECS) gone(ctx context.Context, role Role, ids []string) (map[string]bool, error) {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !taskForm.MatchString(id) })
	gone := map[string]bool{}
	for some := range slices.Chunk(ids, describeMost) {
		out, err := t.api.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &role.Cluster, Tasks: some})
		if err != nil {
			return nil, explainECS("DescribeTasks", role, err)
		}
		for _, id := range some {
			gone[id] = false
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
func (t ofECS) hasRole(ctx context.Context, role Role, task types.Task) error {
	var has string
	if task.Overrides != nil {
		has = aws.ToString(task.Overrides.TaskRoleArn)
	}
	if has == "" {
		out, err := t.api.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: task.TaskDefinitionArn})
		if err != nil {
			return explainECS("DescribeTaskDefinition", role, err)
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

// atItsAddress refuses a connection from another address than the task's.
func atItsAddress(task types.Task, id string, from netip.Addr) error {
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
	return comesFrom(has, "task "+id, from)
}

// explainECS says what to do about an error of ECS.
func explainECS(operation string, role Role, err error) error {
	if code(err) == "ClusterNotFoundException" {
		return refuse("there is no ECS cluster %s: compare identities.taskRoles with ECS", role.Cluster)
	}
	return explain("ecs:"+operation, err)
}

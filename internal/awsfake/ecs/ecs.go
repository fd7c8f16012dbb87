// Package ecs stands in for the part of AWS ECS that tells who a task is:
// tasks and task definitions, described.
//
// It owns what the operations mean. It must not know the protocol (wire) nor
// patchbay. It answers the members that the SDK's snapshots have and that
// matter here; the others are left out. Start reading at [ECS.API].
package ecs

import (
	"fmt"
	"strings"
	"sync"

	"patchbay/internal/awsfake/wire"
)

// Task is one task of a service.
type Task struct {
	ID, Cluster, Service string
	LastStatus           string // "" is RUNNING
	DesiredStatus        string // "" is RUNNING
	Address              string // private IPv4 of its network interface; empty: not awsvpc
	Definition           string // ARN, see [ECS.Define]
	RoleOverride         string // ARN; empty: the definition's
	Group                string // "" is service:SERVICE
}

// ECS holds the tasks of one account and Region. It is safe for concurrent
// use.
type ECS struct {
	mu    sync.Mutex
	tasks map[string]Task // by cluster/id
	roles map[string]string
}

// New has no tasks.
func New() *ECS { return &ECS{tasks: map[string]Task{}, roles: map[string]string{}} }

// Put starts a task, or changes it.
func (e *ECS) Put(t Task) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tasks[t.Cluster+"/"+t.ID] = t
}

// Define registers a task definition with its task role.
func (e *ECS) Define(arn, role string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.roles[arn] = role
}

// Stop stops a task of any cluster, and reports whether there is one.
func (e *ECS) Stop(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, t := range e.tasks {
		if t.ID == id {
			t.LastStatus, t.DesiredStatus = "STOPPED", "STOPPED"
			e.tasks[k] = t
			return true
		}
	}
	return false
}

// API is the service to be served. AWS allows DescribeTasks 20 times a second
// in the long run.
func (e *ECS) API() wire.Service {
	return wire.Service{
		Signing: "ecs", Target: "AmazonEC2ContainerServiceV20141113.", Text: "message",
		Rates: map[string]float64{"reads": 20},
		Operations: map[string]wire.Operation{
			"DescribeTasks":          wire.Op("reads", e.describe),
			"DescribeTaskDefinition": wire.Op("reads", e.definition),
		},
	}
}

type describeIn struct {
	Cluster string   `json:"cluster"`
	Tasks   []string `json:"tasks"`
	Include []string `json:"include"`
}

type pair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type attachment struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Details []pair `json:"details"`
}

type overrides struct {
	TaskRoleArn string `json:"taskRoleArn,omitempty"`
}

type task struct {
	TaskArn           string       `json:"taskArn"`
	ClusterArn        string       `json:"clusterArn"`
	TaskDefinitionArn string       `json:"taskDefinitionArn"`
	Group             string       `json:"group"`
	LastStatus        string       `json:"lastStatus"`
	DesiredStatus     string       `json:"desiredStatus"`
	Attachments       []attachment `json:"attachments"`
	Overrides         overrides    `json:"overrides"`
}

type failure struct {
	Arn    string `json:"arn"`
	Reason string `json:"reason"`
}

type describeOut struct {
	Tasks    []task    `json:"tasks"`
	Failures []failure `json:"failures"`
}

func (e *ECS) describe(c *wire.Call, in *describeIn) (*describeOut, error) {
	cluster := in.Cluster
	if cluster == "" {
		cluster = "default"
	}
	short := cluster[strings.LastIndexByte(cluster, '/')+1:]
	switch {
	case len(in.Tasks) == 0:
		return nil, wire.Fail("InvalidParameterException", "Tasks cannot be empty.")
	case len(in.Tasks) > 100:
		return nil, wire.Fail("InvalidParameterException", "Tasks cannot have more than 100 elements.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.hasCluster(short) {
		return nil, wire.Fail("ClusterNotFoundException", "Cluster not found.")
	}
	out := &describeOut{Tasks: []task{}, Failures: []failure{}}
	for _, id := range in.Tasks {
		id = id[strings.LastIndexByte(id, '/')+1:]
		arn := func(what string) string {
			return fmt.Sprintf("arn:aws:ecs:%s:%s:%s", c.Region, c.Principal.Account, what)
		}
		taskARN := arn("task/" + short + "/" + id)
		if err := c.May(taskARN, "ecs:cluster", arn("cluster/"+short)); err != nil {
			return nil, err
		}
		t, ok := e.tasks[short+"/"+id]
		if !ok {
			out.Failures = append(out.Failures, failure{taskARN, "MISSING"})
			continue
		}
		or := func(v, other string) string {
			if v == "" {
				return other
			}
			return v
		}
		v := task{
			TaskArn: taskARN, ClusterArn: arn("cluster/" + short), TaskDefinitionArn: t.Definition, Group: or(t.Group, "service:"+t.Service),
			LastStatus: or(t.LastStatus, "RUNNING"), DesiredStatus: or(t.DesiredStatus, "RUNNING"), Attachments: []attachment{}, Overrides: overrides{t.RoleOverride},
		}
		if t.Address != "" {
			v.Attachments = append(v.Attachments, attachment{"ElasticNetworkInterface", "ATTACHED", []pair{{"subnetId", "subnet-1"}, {"privateIPv4Address", t.Address}}})
		}
		out.Tasks = append(out.Tasks, v)
	}
	return out, nil
}

func (e *ECS) hasCluster(name string) bool {
	for key := range e.tasks {
		if strings.HasPrefix(key, name+"/") {
			return true
		}
	}
	return false
}

type definitionIn struct {
	TaskDefinition string   `json:"taskDefinition"`
	Include        []string `json:"include"`
}

type definition struct {
	TaskDefinitionArn string `json:"taskDefinitionArn"`
	TaskRoleArn       string `json:"taskRoleArn,omitempty"`
}

type definitionOut struct {
	TaskDefinition definition `json:"taskDefinition"`
}

func (e *ECS) definition(c *wire.Call, in *definitionIn) (*definitionOut, error) {
	if err := c.May("*"); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	role, ok := e.roles[in.TaskDefinition]
	if !ok {
		return nil, wire.Fail("ClientException", "Unable to describe task definition.")
	}
	return &definitionOut{definition{in.TaskDefinition, role}}, nil
}

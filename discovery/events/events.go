// Package events listens to the state changes of ECS tasks, which an
// EventBridge rule sends to an SQS queue, and makes hints of them.
//
// It owns what an event can mean. An event is never the truth: events come
// late, twice, in any order, or not at all, and anyone who may write to the
// queue can write one. All that follows from one is that the registry is asked
// earlier, and that an endpoint of a task that is to stop is avoided for a while.
// It must not know the registry.
//
// Start reading at [Queue.Run].
package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Task is a state change of a task.
type Task struct {
	Cluster string // name
	ID      string
	Service string // ECS service; empty: the task has none
	Last    string // RUNNING, DEPROVISIONING, …
	Desired string // RUNNING or STOPPED
	Version int64  // grows with every change of the task
	At      time.Time
}

// Stopping reports whether the task is bound for STOPPED.
func (t Task) Stopping() bool { return t.Desired == "STOPPED" }

// settled are the states in which nothing becomes of the registry: the task has
// no address yet.
var settled = map[string]bool{"PROVISIONING": true, "PENDING": true}

// errOther is what parse returns for an event that is not about a task.
var errOther = errors.New("not a state change of an ECS task")

// parse reads an event as EventBridge writes it, by itself or in the envelope
// of an SNS topic.
func parse(body []byte) (Task, error) {
	var e struct {
		Type       string    `json:"Type"` // of the envelope
		Message    string    `json:"Message"`
		DetailType string    `json:"detail-type"`
		Source     string    `json:"source"`
		Time       time.Time `json:"time"`
		Detail     struct {
			ClusterARN    string `json:"clusterArn"`
			TaskARN       string `json:"taskArn"`
			Group         string `json:"group"`
			LastStatus    string `json:"lastStatus"`
			DesiredStatus string `json:"desiredStatus"`
			Version       int64  `json:"version"`
		} `json:"detail"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return Task{}, fmt.Errorf("event: %w", err)
	}
	if e.Type == "Notification" && e.Message != "" && e.DetailType == "" {
		return parse([]byte(strings.TrimSpace(e.Message)))
	}
	if e.Source != "aws.ecs" || e.DetailType != "ECS Task State Change" {
		return Task{}, fmt.Errorf("%w: %q from %q", errOther, e.DetailType, e.Source)
	}
	d := e.Detail
	t := Task{Cluster: last(d.ClusterARN), ID: last(d.TaskARN), Last: d.LastStatus, Desired: d.DesiredStatus, Version: d.Version, At: e.Time}
	if name, ok := strings.CutPrefix(d.Group, "service:"); ok {
		t.Service = name
	}
	if t.ID == "" || t.Last == "" {
		return Task{}, errors.New("event: it lacks taskArn or lastStatus")
	}
	return t, nil
}

func last(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

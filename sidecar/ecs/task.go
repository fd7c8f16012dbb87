package ecs

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Mode is a task's network mode.
type Mode string

// The network modes in which a sidecar can run. None is outside ECS: the
// containers share a network namespace, as with awsvpc.
const (
	None   Mode = ""
	AWSVPC Mode = "awsvpc"
	Host   Mode = "host"
	Bridge Mode = "bridge"
)

// Modes are those that may be asked for.
var Modes = []Mode{AWSVPC, Host, Bridge}

// Task is what the metadata endpoint says.
type Task struct {
	ARN, ID          string
	Cluster          string // name
	Family, Revision string
	Service          string // name of the ECS service; empty: the task is of none, or the agent is too old to say
	LaunchType       string // EC2, FARGATE, EXTERNAL; empty: the agent does not say
	Region           string
	Zone             string // availability zone, such as eu-west-1a; may be empty
	ZoneID           string // and its id, such as euw1-az2; may be empty
	Mode             Mode
	Stopping         bool   // ECS wants it to stop
	Own              string // name of this container
	Containers       []Container
}

// Container is one container of the task.
type Container struct {
	Name      string
	Status    string       // CREATED, RUNNING, STOPPED, …
	Health    string       // HEALTHY, UNHEALTHY, UNKNOWN; empty: it has no health check
	Ports     []Port       // TCP
	Addresses []netip.Addr // IPv4 first
	pause     bool
}

// Port is one port mapping.
type Port struct {
	Container, Host uint16 // Host is 0 if there is none (yet)
}

// Addresses are those of this container: with awsvpc the task's.
func (t *Task) Addresses() []netip.Addr {
	c, _ := t.container(t.Own)
	return c.Addresses
}

// HostPort is the port of the machine that leads to a port of this container.
func (t *Task) HostPort(port uint16) (uint16, bool) {
	c, _ := t.container(t.Own)
	for _, p := range c.Ports {
		if p.Container == port && p.Host != 0 {
			return p.Host, true
		}
	}
	return 0, false
}

func (t *Task) container(name string) (Container, bool) {
	i := slices.IndexFunc(t.Containers, func(c Container) bool { return c.Name == name })
	if i < 0 {
		return Container{}, false
	}
	return t.Containers[i], true
}

// App is the container that answers on a port: the one called name, or if that
// is empty the one that maps the port. ok is false if there is none.
func (t *Task) App(name string, port uint16) (c Container, ok bool) {
	if name != "" {
		return t.container(name)
	}
	for _, c := range t.Containers {
		if c.Name != t.Own && !c.pause && slices.ContainsFunc(c.Ports, func(p Port) bool { return p.Container == port }) {
			return c, true
		}
	}
	return Container{}, false
}

// Unhealthy says why a port's container must not be called; empty if it may be.
// A container without a health check is judged by its status alone.
func (t *Task) Unhealthy(name string, port uint16) string {
	c, ok := t.App(name, port)
	switch {
	case !ok && name != "":
		return fmt.Sprintf("the task has no container %q; it has %s", name, strings.Join(t.names(), ", "))
	case !ok:
		return "" // an agent that does not tell ports: the connection alone decides
	case c.Status == "STOPPED":
		return "the container " + c.Name + " has stopped"
	case c.Health != "" && c.Health != "HEALTHY":
		return fmt.Sprintf("the health check of the container %s says %s", c.Name, c.Health)
	}
	return ""
}

func (t *Task) names() []string {
	var out []string
	for _, c := range t.Containers {
		if c.Name != t.Own && !c.pause {
			out = append(out, c.Name)
		}
	}
	return out
}

// task is the endpoint's answer. It has more members, which do not matter here.
type task struct {
	Cluster, TaskARN, Family, Revision, ServiceName string
	DesiredStatus, KnownStatus                      string
	AvailabilityZone, AvailabilityZoneID            string
	LaunchType                                      string
	Containers                                      []container
}

type container struct {
	DockerID      string `json:"DockerId"`
	Name          string
	DesiredStatus string
	KnownStatus   string
	Type          string
	Ports         []struct {
		ContainerPort, HostPort uint16
		Protocol                string
	}
	Networks []struct {
		NetworkMode                  string
		IPv4Addresses, IPv6Addresses []string
	}
	Health *struct {
		Status string `json:"status"`
	}
}

var (
	taskARN = regexp.MustCompile(`^arn:aws[a-z-]*:ecs:([a-z0-9-]+):[0-9]{12}:task/(?:([A-Za-z0-9_-]{1,255})/)?([0-9a-zA-Z-]{1,64})$`)
	zone    = regexp.MustCompile(`^[a-z0-9-]{0,32}$`)
)

// read is one container of the answer; bad is told of what is wrong with it.
func (c container) read(bad func(format string, args ...any)) Container {
	if c.Name == "" {
		bad(".Name: is missing")
	}
	mine := Container{Name: c.Name, Status: c.KnownStatus, pause: c.Type == "CNI_PAUSE"}
	if c.Health != nil {
		mine.Health = cmp.Or(c.Health.Status, "UNKNOWN")
	}
	for _, p := range c.Ports {
		if p.Protocol == "" || p.Protocol == "tcp" {
			mine.Ports = append(mine.Ports, Port{p.ContainerPort, p.HostPort})
		}
	}
	for j, n := range c.Networks {
		for _, a := range slices.Concat(n.IPv4Addresses, n.IPv6Addresses) {
			addr, err := netip.ParseAddr(a)
			switch {
			case a == "": // host mode
			case err != nil:
				bad(".Networks[%d]: address %.60q", j, a)
			default:
				mine.Addresses = append(mine.Addresses, addr)
			}
		}
	}
	return mine
}

// read checks an answer; the error lists everything that is wrong.
func (r task) read(own string) (*Task, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	t := &Task{
		ARN: r.TaskARN, Family: r.Family, Revision: r.Revision, Service: r.ServiceName, LaunchType: r.LaunchType,
		Zone: r.AvailabilityZone, ZoneID: r.AvailabilityZoneID, Stopping: r.DesiredStatus == "STOPPED",
	}
	if m := taskARN.FindStringSubmatch(r.TaskARN); m != nil {
		t.Region, t.ID = m[1], m[3]
		t.Cluster = cmp.Or(r.Cluster[strings.LastIndexByte(r.Cluster, '/')+1:], m[2])
	} else {
		bad("TaskARN: %.200q; expected: arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/ID", r.TaskARN)
	}
	for _, z := range []struct{ name, value string }{{"AvailabilityZone", t.Zone}, {"AvailabilityZoneID", t.ZoneID}} {
		if !zone.MatchString(z.value) {
			bad("%s: %.60q; expected: up to 32 of [a-z0-9-]", z.name, z.value)
		}
	}
	if len(r.Containers) == 0 {
		bad("Containers: are missing")
	}
	for i, c := range r.Containers {
		at := fmt.Sprintf("Containers[%d]", i)
		t.Containers = append(t.Containers, c.read(func(format string, args ...any) { bad(at+format, args...) }))
		if c.DockerID != own {
			continue
		}
		t.Own = c.Name
		if len(c.Networks) > 0 {
			t.Mode = Mode(c.Networks[0].NetworkMode)
		}
	}
	switch {
	case len(r.Containers) > 0 && t.Own == "":
		bad("Containers: none has this container's DockerId %.80q", own)
	case t.Own != "" && !slices.Contains(Modes, t.Mode):
		bad("Networks[0].NetworkMode of container %s: %.40q; a sidecar can run in: awsvpc, host, bridge", t.Own, t.Mode)
	}
	return t, errors.Join(errs...)
}

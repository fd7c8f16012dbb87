// Package metadata stands in for what an ECS container can ask about itself:
// the task metadata endpoint version 4, and the endpoint of its role's
// credentials.
//
// It owns the form of the answers, which is that of the ECS agent's source
// (ecs-agent/tmds) as far as members matter here. It must not know what the
// tasks are for. Start reading at [Endpoint.ServeHTTP]:
//
//	/v4/KEY               the container
//	/v4/KEY/task          its task; /taskWithTags is the same
//	/v4/KEY/credentials   credentials of the task's role
//
// KEY names a container of a task: "TASKID-CONTAINER". [Endpoint.Environ] has
// the variables that make the AWS SDK and patchbay ask here.
package metadata

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Port is a port mapping of a container.
type Port struct {
	ContainerPort uint16
	Protocol      string `json:",omitempty"`
	HostPort      uint16 `json:",omitempty"`
	HostIp        string `json:",omitempty"` //nolint:revive // AWS's name
}

// Network is one network of a container.
type Network struct {
	NetworkMode   string
	IPv4Addresses []string `json:",omitempty"`
	IPv6Addresses []string `json:",omitempty"`
}

// Health is the result of a container's health check.
type Health struct {
	Status   string     `json:"status"`
	Since    *time.Time `json:"statusSince,omitempty"`
	ExitCode int        `json:"exitCode"`
}

// Container is one container of a task.
type Container struct {
	DockerId      string //nolint:revive // AWS's name
	Name          string
	DockerName    string `json:",omitempty"`
	Image         string `json:",omitempty"`
	DesiredStatus string
	KnownStatus   string
	Type          string // NORMAL, or CNI_PAUSE
	ContainerARN  string `json:",omitempty"`
	Ports         []Port `json:",omitempty"`
	Networks      []Network
	Health        *Health `json:",omitempty"` // nil: it has no health check
}

// Task is one task. What is empty is left out of the answer, as by an ECS
// agent that does not know it.
type Task struct {
	Cluster            string // ARN, or name
	TaskARN            string
	Family             string
	Revision           string
	ServiceName        string `json:",omitempty"`
	DesiredStatus      string
	KnownStatus        string
	AvailabilityZone   string `json:",omitempty"`
	AvailabilityZoneID string `json:",omitempty"`
	LaunchType         string `json:",omitempty"`
	VPCID              string `json:",omitempty"`
	Containers         []Container
}

// ID is the last part of the task's ARN.
func (t Task) ID() string { return t.TaskARN[strings.LastIndexByte(t.TaskARN, '/')+1:] }

// Credentials are what the role of a task signs with.
type Credentials struct {
	AccessKeyId     string //nolint:revive // AWS's name
	SecretAccessKey string
	Token           string
	Expiration      time.Time
	RoleArn         string
}

// Fault is trouble with the endpoint.
type Fault struct {
	Times  int           // how many calls it meets; 0: all, until cleared
	Status int           // answered instead; 0: 200
	Body   string        // answered instead
	Hang   time.Duration // before the answer
}

// Endpoint answers for any number of tasks. It is safe for concurrent use.
type Endpoint struct {
	mu     sync.Mutex
	tasks  map[string]*Task // by id
	creds  map[string]Credentials
	faults []*Fault
	calls  int
}

// New knows no tasks.
func New() *Endpoint { return &Endpoint{tasks: map[string]*Task{}, creds: map[string]Credentials{}} }

// Put starts a task, or changes it. A container without DockerId gets one.
func (e *Endpoint) Put(t Task) {
	t.Containers = slices.Clone(t.Containers)
	for i := range t.Containers {
		c := &t.Containers[i]
		if c.DockerId == "" {
			c.DockerId = t.ID() + "-" + c.Name
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tasks[t.ID()] = &t
}

// Change edits a task in place; f must keep nothing of it.
func (e *Endpoint) Change(id string, f func(*Task)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := *e.tasks[id]
	t.Containers = slices.Clone(t.Containers)
	f(&t)
	e.tasks[id] = &t
}

// SetHealth sets the health of a container: HEALTHY, UNHEALTHY or UNKNOWN.
func (e *Endpoint) SetHealth(id, container, status string) {
	e.Change(id, func(t *Task) {
		for i, c := range t.Containers {
			if c.Name == container {
				now := time.Now().UTC()
				t.Containers[i].Health = &Health{Status: status, Since: &now}
			}
		}
	})
}

// Grant sets the credentials of a task's role.
func (e *Endpoint) Grant(id string, c Credentials) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.Expiration.IsZero() {
		c.Expiration = time.Now().Add(6 * time.Hour).UTC()
	}
	e.creds[id] = c
}

// Inject adds a fault and returns what takes it away again.
func (e *Endpoint) Inject(f Fault) (clear func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := &f
	if p.Times == 0 {
		p.Times = -1
	}
	e.faults = append(e.faults, p)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		p.Times = 0
	}
}

// Calls is how often it was asked.
func (e *Endpoint) Calls() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls
}

// URI is what ECS_CONTAINER_METADATA_URI_V4 is in a container of a task, where
// base is the address that e is served at (http://HOST:PORT).
func URI(base, id, container string) string { return base + "/v4/" + id + "-" + container }

// Environ is what ECS sets in a container of a task. The credentials are found
// by their whole address, which the SDK takes for loopback, 169.254.170.2 and
// HTTPS only.
func (e *Endpoint) Environ(base, id, container string) []string {
	uri := URI(base, id, container)
	env := []string{"ECS_CONTAINER_METADATA_URI_V4=" + uri}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.creds[id]; ok {
		env = append(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+uri+"/credentials")
	}
	return env
}

// ServeHTTP implements [http.Handler].
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := e.fault(); f != nil {
		select {
		case <-time.After(f.Hang):
		case <-r.Context().Done():
			return
		}
		if f.Status != 0 || f.Body != "" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(max(f.Status, http.StatusOK))
			fmt.Fprint(w, f.Body)
			return
		}
	}
	key, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v4/"), "/")
	id, container, _ := strings.Cut(key, "-")
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tasks[id]
	if t == nil || r.Method != http.MethodGet {
		http.Error(w, fmt.Sprintf("V4 metadata handler: unable to get container ID from request: %q", key), http.StatusNotFound)
		return
	}
	i := slices.IndexFunc(t.Containers, func(c Container) bool { return c.Name == container })
	switch creds, granted := e.creds[id]; {
	case i < 0:
		http.Error(w, fmt.Sprintf("V4 container metadata handler: no container %q", container), http.StatusNotFound)
	case what == "":
		answer(w, t.Containers[i])
	case what == "task", what == "taskWithTags":
		answer(w, t)
	case what == "credentials" && granted:
		answer(w, creds)
	default:
		http.NotFound(w, r)
	}
}

// fault is the first one that is left.
func (e *Endpoint) fault() *Fault {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	for _, f := range e.faults {
		if f.Times != 0 {
			f.Times--
			return f
		}
	}
	return nil
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may have left
}

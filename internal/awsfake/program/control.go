package program

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"

	"patchbay/internal/awsfake/ecs"
	"patchbay/internal/awsfake/metadata"
	"patchbay/internal/awsfake/wire"
)

// Task is a task to be started: PUT /tasks/ID, where ID is 32 hexadecimal
// digits as ECS's are. The answer is the environment of its containers.
type Task struct {
	Cluster   string   `json:"cluster"`
	Service   string   `json:"service"`
	Role      string   `json:"role"`      // name of its IAM role
	Address   string   `json:"address"`   // its private IPv4
	Zone      string   `json:"zone"`      // availability zone id
	Container string   `json:"container"` // of the application
	Ports     []uint16 `json:"ports"`     // that it maps
}

// Sum is how often an operation was asked for: GET /calls.
type Sum struct {
	Service   string `json:"service"`
	Operation string `json:"operation"`
	Answered  int    `json:"answered"`
	Failed    int    `json:"failed"`
}

func (p *Program) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(io.LimitReader(r.Body, 1<<12))
		f, perr := ParseFault(string(text))
		if err := cmp.Or(err, perr); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.aws.Inject(f)
	})
	mux.HandleFunc("DELETE /faults", func(http.ResponseWriter, *http.Request) { p.aws.Clear() })
	mux.HandleFunc("GET /ca", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(p.pca.Certificate(p.ca)) // the caller has gone if this fails
	})
	mux.HandleFunc("GET /calls", func(w http.ResponseWriter, _ *http.Request) { encode(w, p.Sums()) })
	mux.HandleFunc("GET /bill", func(w http.ResponseWriter, _ *http.Request) { encode(w, p.Bill()) })
	mux.HandleFunc("PUT /tasks/{id}", p.putTask)
	mux.HandleFunc("DELETE /tasks/{id}", func(w http.ResponseWriter, r *http.Request) {
		if !p.ecs.Stop(r.PathValue("id")) {
			http.Error(w, "no such task", http.StatusNotFound)
		}
	})
	return mux
}

var taskID = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (p *Program) putTask(w http.ResponseWriter, r *http.Request) {
	var t Task
	id := r.PathValue("id")
	if !taskID.MatchString(id) {
		http.Error(w, "a task's id has 32 hexadecimal digits", http.StatusBadRequest)
		return
	}
	dec := json.NewDecoder(io.LimitReader(r.Body, 1<<16))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	definition := fmt.Sprintf("arn:aws:ecs:%s:%s:task-definition/%s:1", p.aws.Region(), p.aws.Account(), t.Service)
	role := fmt.Sprintf("arn:aws:iam::%s:role/%s", p.aws.Account(), t.Role)
	p.ecs.Define(definition, role)
	p.ecs.Put(ecs.Task{ID: id, Cluster: t.Cluster, Service: t.Service, Address: t.Address, Definition: definition})
	secret, token := "secret-of-"+id, "token-of-"+id
	p.aws.Grant("ASIA"+id[:16], wire.Principal{
		Secret: secret, Token: token, Account: p.aws.Account(), UserID: "AROA:" + id,
		ARN: fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", p.aws.Account(), t.Role, id),
	})
	p.meta.Grant(id, metadata.Credentials{AccessKeyId: "ASIA" + id[:16], SecretAccessKey: secret, Token: token, RoleArn: role})
	app := metadata.Container{Name: t.Container, DesiredStatus: "RUNNING", KnownStatus: "RUNNING", Type: "NORMAL",
		Networks: []metadata.Network{{NetworkMode: "awsvpc", IPv4Addresses: []string{t.Address}}}}
	for _, port := range t.Ports {
		app.Ports = append(app.Ports, metadata.Port{ContainerPort: port, Protocol: "tcp"})
	}
	sidecar := app
	sidecar.Name, sidecar.Ports = "patchbay", nil
	p.meta.Put(metadata.Task{
		Cluster: t.Cluster, TaskARN: fmt.Sprintf("arn:aws:ecs:%s:%s:task/%s/%s", p.aws.Region(), p.aws.Account(), t.Cluster, id),
		Family: t.Service, Revision: "1", ServiceName: t.Service, DesiredStatus: "RUNNING", KnownStatus: "RUNNING",
		AvailabilityZoneID: t.Zone, LaunchType: "FARGATE", Containers: []metadata.Container{app, sidecar},
	})
	encode(w, p.meta.Environ(p.URL("metadata"), id, "patchbay"))
}

func encode(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller has gone if this fails
}

// Sums are the calls so far, by service and operation.
func (p *Program) Sums() []Sum {
	by := map[[2]string]*Sum{}
	for _, c := range p.aws.Calls() {
		k := [2]string{c.Service, c.Operation}
		if by[k] == nil {
			by[k] = &Sum{Service: c.Service, Operation: c.Operation}
		}
		if c.Error == "" {
			by[k].Answered++
		} else {
			by[k].Failed++
		}
	}
	out := []Sum{}
	for _, s := range by {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Sum) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Operation, b.Operation))
	})
	return out
}

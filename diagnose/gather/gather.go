// Package gather collects the facts of a diagnosis from a running control
// plane and, through it, from the agents of tasks.
//
// It owns what is asked for, of whom and how long that may take. It must not
// judge. Start reading at [Source.Explain] and [Source.Doctor].
package gather

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"sync"
	"time"

	"patchbay/admin/api"
	"patchbay/agentapi"
	"patchbay/diagnose"
	"patchbay/diagnose/hops"
	"patchbay/diagnose/verify"
)

const (
	// tasksMost is how many sidecars one diagnosis looks into: those that are
	// ill come first.
	tasksMost = 20
	// portsMost is how many endpoints one diagnosis shakes hands with.
	portsMost = 40
	// atOnce is how many questions are open at a time.
	atOnce = 4
)

// Source is a control plane.
type Source struct {
	Client  *api.Client
	Address string // for people
}

// Status gathers the status alone. A control plane that does not answer is a
// fact, not an error.
func (s Source) Status(ctx context.Context) (*diagnose.Facts, error) {
	f := &diagnose.Facts{Now: time.Now().UTC(), Address: s.Address, Tasks: map[string]*api.Task{}, Details: map[string]*api.ServiceDetail{}, Ports: map[string]verify.Endpoint{}}
	st := &api.Status{}
	err := s.Client.Get(ctx, "status", nil, st)
	if e, ok := errors.AsType[*api.Unreachable](err); ok {
		f.Unreachable = e.Err.Error()
		return f, nil
	}
	if e, ok := errors.AsType[*api.Denied](err); ok {
		f.Denied = e.Text
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	f.Status, f.Now = st, time.Now().UTC()
	return f, nil
}

// Explain gathers what a call of address by client needs: the client's
// sidecar, the service, and a handshake of the client with each endpoint.
func (s Source) Explain(ctx context.Context, client, address string) (*diagnose.Facts, error) {
	f, err := s.Status(ctx)
	if err != nil || f.Status == nil {
		return f, err
	}
	node, ok := diagnose.Client(f.Status, client)
	if !ok {
		return f, nil
	}
	s.tasks(ctx, f, []string{node})
	service, ok := hops.Target(f.Status, node, address)
	if !ok {
		return f, nil
	}
	s.service(ctx, f, service)
	holds := &api.Policy{}
	if s.Client.Get(ctx, "policy", url.Values{"node": {node}, "service": {service}}, holds) == nil { // else it is not connected, which is a finding
		f.Policy = holds.Words
	}
	s.handshakes(ctx, f, func(string) string { return node })
	s.tasks(ctx, f, servers(f, service))
	return f, nil
}

// servers are the sidecars of a service's endpoints.
func servers(f *diagnose.Facts, service string) []string {
	var out []string
	for _, n := range f.Status.Sidecars {
		if n.Agent != nil && f.Tasks[n.Node] == nil && slices.ContainsFunc(n.Ports, func(p api.PortStatus) bool { return p.Service == service }) {
			out = append(out, n.Node)
		}
	}
	return out
}

// Doctor gathers what a general diagnosis needs: sidecars that are ill, or
// all of a small mesh, and a handshake with endpoints of each service.
func (s Source) Doctor(ctx context.Context) (*diagnose.Facts, error) {
	f, err := s.Status(ctx)
	if err != nil || f.Status == nil {
		return f, err
	}
	ill := map[string]bool{}
	for _, x := range diagnose.Check(f) {
		ill[x.Subject] = true
	}
	var nodes []string
	for _, n := range f.Status.Sidecars {
		if n.Agent != nil {
			nodes = append(nodes, n.Node)
		}
	}
	slices.SortStableFunc(nodes, func(a, b string) int {
		switch {
		case ill[a] == ill[b]:
			return 0
		case ill[a]:
			return -1
		}
		return 1
	})
	for _, v := range f.Status.Services {
		if len(f.Details) < portsMost && v.Protocol != "" {
			s.service(ctx, f, v.Name)
		}
	}
	var both sync.WaitGroup // each may have to wait for somebody who is silent
	both.Go(func() { s.tasks(ctx, f, nodes) })
	both.Go(func() { s.handshakes(ctx, f, func(address string) string { return f.Status.OtherTask(address) }) })
	both.Wait()
	t := &api.Traffic{}
	if s.Client.Get(ctx, "traffic", nil, t) == nil {
		f.Traffic = t
	}
	return f, nil
}

// AWS has the control plane try its calls of AWS. That it uses none is an error.
func (s Source) AWS(ctx context.Context, f *diagnose.Facts) error {
	if f.Status == nil {
		return nil // there is a finding about that
	}
	a := &api.AWS{}
	if err := s.Client.Get(ctx, "aws", nil, a); err != nil {
		return err
	}
	f.AWS = a
	return nil
}

// tasks looks into sidecars. One that does not answer is a fact too.
func (s Source) tasks(ctx context.Context, f *diagnose.Facts, nodes []string) {
	var mu sync.Mutex
	inParallel(nodes[:min(len(nodes), tasksMost)], func(node string) {
		t := &api.Task{}
		if err := s.Client.Get(ctx, "task", url.Values{"node": {node}}, t); err != nil {
			t = &api.Task{Node: node, Errors: map[string]string{"agent": err.Error()}}
		}
		mu.Lock()
		defer mu.Unlock()
		f.Tasks[node] = t
	})
}

func (s Source) service(ctx context.Context, f *diagnose.Facts, name string) {
	d := &api.ServiceDetail{}
	if s.Client.Get(ctx, "service", url.Values{"name": {name}}, d) == nil {
		f.Details[name] = d
	}
}

// handshakes has tasks look at the endpoints of all services that were
// gathered.
func (s Source) handshakes(ctx context.Context, f *diagnose.Facts, from func(address string) string) {
	var mu sync.Mutex
	var all []string
	services := map[string]*api.ServiceDetail{}
	for _, d := range f.Details {
		for i, e := range d.Instances {
			if i < portsMost/len(f.Details)+1 {
				all = append(all, e.Address)
				services[e.Address] = d
			}
		}
	}
	slices.Sort(all)
	inParallel(all[:min(len(all), portsMost)], func(address string) {
		d, node := services[address], from(address)
		if node == "" {
			return
		}
		var o verify.Observation
		err := s.Client.Get(ctx, "handshake", url.Values{"node": {node}, "service": {d.Name}, "address": {address}}, &o)
		if err != nil {
			return // the agent's silence is a finding of its own
		}
		v := verify.Judge(o, diagnose.Expected(d), time.Now())
		v.Service = d.Name
		mu.Lock()
		defer mu.Unlock()
		f.Ports[address] = v
	})
}

func inParallel(all []string, f func(string)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, one := range all {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			f(one)
		})
	}
	wg.Wait()
}

// Live is one real call, and what each sidecar on its way counted meanwhile.
type Live struct {
	Called agentapi.Outcome             `json:"called"`
	Counts map[string]map[string]uint64 `json:"counts"` // node → statistic → how much it grew
	Errors []string                     `json:"errors,omitempty"`
}

// Call makes a real call by the client's agent. The nodes named are asked
// before and after.
func (s Source) Call(ctx context.Context, client, address string, nodes []string) (*Live, error) {
	l := &Live{Counts: map[string]map[string]uint64{}}
	before := s.counts(ctx, nodes, l)
	if err := s.Client.Post(ctx, "call", url.Values{"node": {client}, "url": {address}}, &l.Called); err != nil {
		return nil, err
	}
	for node, after := range s.counts(ctx, nodes, l) {
		for name, n := range after {
			if grown := n - before[node][name]; n > before[node][name] {
				if l.Counts[node] == nil {
					l.Counts[node] = map[string]uint64{}
				}
				l.Counts[node][name] = grown
			}
		}
	}
	return l, nil
}

func (s Source) counts(ctx context.Context, nodes []string, l *Live) map[string]map[string]uint64 {
	out := map[string]map[string]uint64{}
	for _, n := range nodes {
		t := &api.Task{}
		if err := s.Client.Get(ctx, "task", url.Values{"node": {n}, "stats": {"only"}}, t); err != nil {
			l.Errors = append(l.Errors, err.Error())
			continue
		}
		out[n] = t.Stats
	}
	return out
}

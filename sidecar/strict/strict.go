// Package strict is what profile strict makes of a task: it sees of the mesh what
// Service Connect would show it, with the names of its start until it ends.
//
// It owns what such a task may not declare, and the file below the state
// directory that keeps its names. It must not know the agent, nor when the names
// are there. Start reading at [Freeze].
package strict

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"patchbay/agentapi"
	"patchbay/declare"
	"patchbay/identity/durable"
	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// fileName is the file below the state directory: an agent that was killed goes
// on with its names.
const fileName = "names.json"

type file struct {
	Task  string `json:"task"`
	Names []line `json:"names"`
}

type line struct {
	Name  string   `json:"name"`
	VIP   string   `json:"vip"`
	Ports []uint32 `json:"ports"`
}

// Refused lists what a task declares and ECS does not have.
func Refused(d declare.Task) (errs []error) {
	if len(d.Policies) > 0 {
		errs = append(errs, errors.New("the declaration: policies for calls; allowed: none with profile strict, which has Service Connect's own. Take them out, or use --profile live"))
	}
	if len(d.Dependencies) > 0 {
		errs = append(errs, errors.New("the declaration: dependencies; allowed: none with profile strict, which knows every name of the namespace. Take them out, or use --profile live"))
	}
	for _, p := range d.Ports {
		if !onlyECS(p.Policy) {
			errs = append(errs, fmt.Errorf("the declaration: %s: a policy; allowed: none with profile strict. Take it out, or use --profile live", p.PortName))
		}
	}
	return errs
}

// onlyECS reports whether a service's policy says no more than ECS's block can:
// testTrafficRules and deploymentConfiguration are kept there.
func onlyECS(p *policy.Policy) bool {
	if p == nil {
		return true
	}
	more := *p
	more.TestTraffic, more.Deployment = nil, nil
	return reflect.DeepEqual(more, policy.Policy{})
}

// Freeze gives a task the names that it knows until it ends: those that an
// earlier agent of the same task has kept in the state directory, else those of
// the control plane's first list, with virtual IPs of the task's own, which are
// kept then.
func Freeze(state, task string, first func() (*agentapi.Names, error)) (*agentapi.Names, error) {
	list, err := kept(state, task)
	if err != nil || list != nil {
		return list, err
	}
	if list, err = first(); err != nil {
		return nil, err
	}
	return keep(state, task, list)
}

// kept is what an earlier agent of the task has kept; nil if none did.
func kept(state, task string) (*agentapi.Names, error) {
	path := filepath.Join(state, fileName)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("read the names of the task: %w", err)
	}
	f := file{}
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("read the names of the task: %s: %w; remove the file to freeze them anew", path, err)
	}
	if f.Task != task {
		return nil, nil //nolint:nilnil // another task's
	}
	return f.list(), nil
}

// keep gives the names of the first list virtual IPs, and writes them down.
func keep(state, task string, first *agentapi.Names) (*agentapi.Names, error) {
	var names []string
	for _, n := range first.GetNames() {
		names = append(names, n.GetDnsName())
	}
	slices.Sort(names)
	vips := mesh.NumberVIPs(names)
	f := file{Task: task, Names: []line{}}
	for _, n := range first.GetNames() {
		if vip, ok := vips[n.GetDnsName()]; ok {
			f.Names = append(f.Names, line{n.GetDnsName(), vip.String(), n.GetPorts()})
		}
	}
	b, err := json.Marshal(f)
	if err == nil {
		err = write(state, b)
	}
	if err != nil {
		return nil, fmt.Errorf("keep the names of the task: %w", err)
	}
	return f.list(), nil
}

// write leaves the whole file, or none: half of one, as a full disk or a kill
// leaves, would keep every later agent of the task from starting.
func write(state string, b []byte) error {
	root, err := os.OpenRoot(state)
	if err != nil {
		return err
	}
	defer root.Close()
	return durable.ReplaceIn(root, fileName, b, 0)
}

// Forget ends the names with their task.
func Forget(state string) error {
	if err := os.Remove(filepath.Join(state, fileName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (f file) list() *agentapi.Names {
	out := &agentapi.Names{}
	for _, n := range f.Names {
		out.Names = append(out.Names, &agentapi.Name{DnsName: n.Name, Vip: n.VIP, Ports: n.Ports})
	}
	return out
}

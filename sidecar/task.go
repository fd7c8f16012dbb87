package sidecar

import (
	"reflect"

	"patchbay/sidecar/ecs"
)

// task is what ECS said last; nil outside ECS.
func (a *Agent) task() *ecs.Task {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.st.task
}

// told takes what ECS says of the task. A task that is to stop leaves the mesh
// at once: where the application depends on the sidecar, ECS stops it first,
// and tells the sidecar last.
func (a *Agent) told(t *ecs.Task) {
	a.mu.Lock()
	changed := !reflect.DeepEqual(a.st.task, t)
	leaves := t.Stopping && !a.st.draining
	a.st.task = t
	if leaves {
		a.st.draining = true
	}
	a.mu.Unlock()
	if leaves {
		a.log.Info("ECS stops the task: it leaves the mesh", "task", t.ARN)
		signal(a.report)
	}
	if changed {
		a.poke()
	}
}

func (c Config) locator() ecs.Locator {
	return ecs.Locator{Mode: c.Network, Task: c.ECS, Endpoint: c.Metadata, Container: c.Container, Ports: c.Declaration.Ports, Log: c.Log}
}

// containerPorts are those that Envoy must not take: those of containers in
// its own network namespace.
func (a *Agent) containerPorts() []uint16 {
	if a.cfg.Network == ecs.Bridge {
		return nil
	}
	return a.cfg.Declaration.ContainerPorts
}

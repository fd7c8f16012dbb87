package sidecar

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"patchbay/internal/count"
	"patchbay/internal/health"
)

// Status is what an agent says of itself, for health checks and people.
type Status struct {
	Ready     bool             `json:"ready"`     // the task's applications can call the mesh
	Reasons   []string         `json:"reasons"`   // why not
	Problems  []health.Problem `json:"problems"`  // the same, by what it is about, and since when
	Serving   bool             `json:"serving"`   // every offered port is registered
	Connected bool             `json:"connected"` // the control plane can be reached
	Draining  bool             `json:"draining"`
	Node      string           `json:"node,omitempty"`
	NotAfter  time.Time        `json:"certificateNotAfter,omitzero"` // of the node certificate
	Network   string           `json:"network,omitempty"`            // ECS's network mode
	Wiring    string           `json:"wiring,omitempty"`             // redirect, bind, or none: then the task only serves
	Envoy     string           `json:"envoy"`                        // Envoy's own word, such as LIVE
	Names     int              `json:"names"`                        // names that can be called
	Waiting   []string         `json:"namesWaiting,omitempty"`
	Refused   []string         `json:"namesRefused,omitempty"`
	Ports     []PortStatus     `json:"ports"`
}

// PortStatus is one offered port.
type PortStatus struct {
	PortName   string `json:"portName"`
	Health     string `json:"health"`
	Registered bool   `json:"registered"`
	InstanceID string `json:"instanceId,omitempty"`
	Problem    string `json:"problem,omitempty"`
}

// Unserved lists the ports that are not registered, each with the reason.
func (s Status) Unserved() []string {
	var out []string
	for _, p := range s.Ports {
		if !p.Registered {
			out = append(out, fmt.Sprintf("port %s is not registered: %s", p.PortName, cmp.Or(p.Problem, "its health is "+p.Health)))
		}
	}
	return out
}

// Ask gets the status of the agent that uses a state directory.
func Ask(ctx context.Context, stateDir string) (Status, error) {
	socket := filepath.Join(stateDir, statusSocket)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	var s Status
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return s, fmt.Errorf("no agent answers on %s: %w", socket, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("read the agent's status: %w", err)
	}
	return s, nil
}

// serveStatus answers Ask until ctx ends.
func (a *Agent) serveStatus(ctx context.Context) error {
	path := filepath.Join(a.cfg.State, statusSocket)
	if err := os.MkdirAll(a.cfg.State, 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if _, err := Ask(ctx, a.cfg.State); err == nil {
		return fmt.Errorf("another agent uses the state directory %s: give each task its own with --state", a.cfg.State)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("status socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("status socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("status socket: %w", err), l.Close())
	}
	s := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a.Status()) // the client may have left
	})}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("status socket: %w", err)
	}
	return context.Cause(ctx)
}

// known is the state at one moment, with what is wrong then. It notes that too:
// with a.mu held, for what is noted later must not be older.
func (a *Agent) known() (state, []PortStatus, []health.Problem) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ports := []PortStatus{}
	for _, p := range a.cfg.Declaration.Ports {
		k := a.st.port(p.PortName)
		ports = append(ports, PortStatus{p.PortName, a.st.health.GetPorts()[p.PortName].String(), k.registered, k.instance, k.problem})
	}
	return a.st, ports, a.problems(a.st)
}

// Status is the agent as it is now. It may be called concurrently.
func (a *Agent) Status() Status {
	st, ports, problems := a.known()
	s := Status{
		Connected: st.connected, Draining: st.draining, Envoy: cmp.Or(st.envoy, "no answer"), Ports: ports,
		Names: st.served, Waiting: st.applied.GetWaiting(), Refused: st.applied.GetRefused(), Reasons: []string{}, Problems: problems,
	}
	for _, p := range s.Problems {
		s.Reasons = append(s.Reasons, p.Reason)
	}
	s.Ready, s.Serving = len(s.Reasons) == 0, len(s.Unserved()) == 0
	if st.phase == "" {
		s.Node, s.NotAfter = a.member.Node().ID(), a.member.NotAfter()
		s.Network, s.Wiring = string(a.cfg.Network), string(a.wiring)
	}
	return s
}

// deadAfter is how long an Envoy that runs may not answer its agent until only a
// restart will help: one that has ended is started again.
const deadAfter = time.Minute

// dead lists what only a restart of the sidecar cures.
func (a *Agent) dead() (out []health.Problem) {
	s := a.Status()
	for _, p := range s.Problems {
		if p.What == "envoy" && s.Envoy == "no answer" && time.Since(p.Since) > deadAfter {
			out = append(out, p)
		}
	}
	return out
}

// problems are why the task's applications can't call the mesh yet; never nil.
// It notes them, and is called with a.mu held.
func (a *Agent) problems(st state) []health.Problem {
	out := []health.Problem{}
	add := func(what, reason string) { out = append(out, health.Problem{What: what, Reason: reason}) }
	if st.phase != "" {
		add("start", st.phase)
		if f := a.member.Failure(); f != "" {
			add("control channel", f)
		}
		return a.unready.Since(time.Now(), out)
	}
	if st.draining {
		add("task", "the task stops")
	}
	if st.envoy != "LIVE" {
		add("envoy", "Envoy is not ready: "+cmp.Or(st.envoy, "no answer"))
	}
	switch n := len(st.applied.GetWaiting()); {
	case st.ready: // names that come later make nobody wait
	case st.applied == nil:
		add("names", cmp.Or(st.lost, "the control plane has not sent the names yet"))
	case n > 0:
		add("names", "waiting until Envoy listens for "+count.Of(n, "name"))
	}
	return a.unready.Since(time.Now(), out)
}

// Package status is what a task's agent says of itself: its form, and the Unix
// socket below the agent's state directory on which it is asked.
//
// It must not know how it is found out. Start reading at [Report].
package status

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

	"patchbay/internal/health"
)

// Socket is the path of the socket of the agent that uses a state directory.
func Socket(stateDir string) string { return filepath.Join(stateDir, "agent.sock") }

// Report is what an agent says of itself, for health checks and people.
type Report struct {
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
	Ports     []Port           `json:"ports"`
}

// Port is one offered port.
type Port struct {
	PortName   string `json:"portName"`
	Health     string `json:"health"`
	Registered bool   `json:"registered"`
	InstanceID string `json:"instanceId,omitempty"`
	Problem    string `json:"problem,omitempty"`
}

// Unserved lists the ports that are not registered, each with the reason.
func (r Report) Unserved() []string {
	var out []string
	for _, p := range r.Ports {
		if !p.Registered {
			out = append(out, fmt.Sprintf("port %s is not registered: %s", p.PortName, cmp.Or(p.Problem, "its health is "+p.Health)))
		}
	}
	return out
}

// Ask gets the status of the agent that uses a state directory.
func Ask(ctx context.Context, stateDir string) (Report, error) {
	socket := Socket(stateDir)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	var r Report
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/status", nil)
	if err != nil {
		return r, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return r, fmt.Errorf("no agent answers on %s: %w", socket, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return r, fmt.Errorf("read the agent's status: %w", err)
	}
	return r, nil
}

// Serve answers [Ask] with what report returns, until ctx ends.
func Serve(ctx context.Context, stateDir string, report func() Report) error {
	path := Socket(stateDir)
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if _, err := Ask(ctx, stateDir); err == nil {
		return fmt.Errorf("another agent uses the state directory %s: give each task its own with --state", stateDir)
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
		_ = json.NewEncoder(w).Encode(report()) // the client may have left
	})}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("status socket: %w", err)
	}
	return context.Cause(ctx)
}

// Package disk keeps the last known good of a namespace in a file, so that a
// control plane that starts without its registry can serve the world as it was.
//
// It owns the file's form and that it is always whole. It must not know what
// the content is good for.
//
// Start reading at [State].
package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"patchbay/discovery/cloud"
)

const version = 1

// State is what the registry last said of a namespace: its words, not what
// became of them, so that they are read again by the code that reads the
// registry.
type State struct {
	Version   int                   `json:"version"`
	Namespace string                `json:"namespace"`
	HTTPName  string                `json:"http_name"`
	Owner     string                `json:"owner,omitempty"` // the account that shares it
	Saved     time.Time             `json:"saved"`
	VIPs      map[string]netip.Addr `json:"vips"`
	Services  []Service             `json:"services"`
}

// Service is one service with its attributes and instances.
type Service struct {
	cloud.Summary
	DiscoveryName string            `json:"discovery_name"`
	Attributes    map[string]string `json:"attributes"`
	Instances     []Instance        `json:"instances"`
}

// Instance is one instance.
type Instance struct {
	ID         string            `json:"id"`
	Health     string            `json:"health"`
	Attributes map[string]string `json:"attributes"`
}

// Load reads the state of a namespace. The error matches fs.ErrNotExist if
// there is none. A file that can't be used is renamed to FILE.bad, so that
// nobody trips over it twice.
func Load(file, namespace string) (State, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return State{}, fmt.Errorf("load state: %w", err)
	}
	var st State
	if err = json.Unmarshal(b, &st); err == nil && (st.Version != version || st.Namespace != namespace) {
		err = fmt.Errorf("it is of version %d for namespace %q", st.Version, st.Namespace)
	}
	if err != nil {
		return State{}, errors.Join(fmt.Errorf("load state %s: %w", file, err), os.Rename(file, file+".bad"))
	}
	return st, nil
}

// Save writes st: a new file beside the old one, flushed, then renamed over
// it. At every moment one of the two is whole.
func Save(file string, st State) error {
	st.Version = version
	b, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	f, err := os.CreateTemp(dir, filepath.Base(file)+".*.tmp")
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it may be gone already
		return fmt.Errorf("save state: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

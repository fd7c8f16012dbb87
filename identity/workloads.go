package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"patchbay/mesh"
)

// Registration is one file of DATA/identities: a workload, what it may offer,
// and the public halves of its join keys.
type Registration struct {
	Namespace      string            `json:"namespace"`
	Workload       string            `json:"workload"`
	DiscoveryNames []string          `json:"discoveryNames"`
	Keys           []jose.JSONWebKey `json:"keys"`
}

// AsWorkload is the registration in the mesh's words.
func (r Registration) AsWorkload() mesh.Workload {
	return mesh.Workload{Namespace: r.Namespace, Name: r.Workload, DiscoveryNames: slices.Sorted(slices.Values(r.DiscoveryNames))}
}

// FileName is where the registration of a workload stands.
func (r Registration) FileName() string { return r.Namespace + "." + r.Workload + ".json" }

// Workloads is the directory of registrations. It is safe for concurrent use.
type Workloads struct {
	dir string

	mu     sync.Mutex
	byName map[string]mesh.Workload // by "namespace/workload"
	byKey  map[string]joinKey       // by key id
	loaded time.Time
}

type joinKey struct {
	workload mesh.Workload
	public   *ecdsa.PublicKey
}

// NewWorkloads reads nothing yet.
func NewWorkloads(dir string) *Workloads { return &Workloads{dir: dir} }

// Load reads every file again. A file that is wrong is named in the error with
// all that is wrong in it, and what it said before goes on to count.
func (w *Workloads) Load() error {
	files, err := filepath.Glob(filepath.Join(w.dir, "*.json"))
	if err != nil {
		return fmt.Errorf("read identities: %w", err)
	}
	slices.Sort(files)
	byName, byKey := map[string]mesh.Workload{}, map[string]joinKey{}
	var errs []error
	for _, file := range files {
		r, err := readRegistration(file)
		if err != nil {
			errs = append(errs, err)
			w.keep(filepath.Base(file), byName, byKey)
			continue
		}
		workload := r.AsWorkload()
		byName[workload.String()] = workload
		for _, k := range r.Keys {
			if other, dup := byKey[k.KeyID]; dup && other.workload.String() != workload.String() {
				errs = append(errs, fmt.Errorf("%s: key id %q is that of %s too", filepath.Base(file), k.KeyID, other.workload))
				continue
			}
			byKey[k.KeyID] = joinKey{workload, k.Key.(*ecdsa.PublicKey)}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.byName, w.byKey, w.loaded = byName, byKey, time.Now()
	return errors.Join(errs...)
}

// refresh is Load, unless that was done less than maxAge ago.
func (w *Workloads) refresh(maxAge time.Duration) error {
	w.mu.Lock()
	age := time.Since(w.loaded)
	w.mu.Unlock()
	if age < maxAge {
		return nil
	}
	return w.Load()
}

// keep carries over what a file said when it could still be read.
func (w *Workloads) keep(file string, byName map[string]mesh.Workload, byKey map[string]joinKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, workload := range w.byName {
		if (Registration{Namespace: workload.Namespace, Workload: workload.Name}).FileName() != file {
			continue
		}
		byName[name] = workload
		for id, k := range w.byKey {
			if k.workload.String() == name {
				byKey[id] = k
			}
		}
	}
}

func readRegistration(file string) (Registration, error) {
	var r Registration
	text, err := os.ReadFile(file)
	if err != nil {
		return r, fmt.Errorf("read identity: %w", err)
	}
	name := filepath.Base(file)
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	var errs []error
	if err := ValidNode(mesh.Node{Workload: mesh.Workload{Namespace: r.Namespace, Name: r.Workload}, Task: "x"}); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	if name != r.FileName() {
		errs = append(errs, fmt.Errorf("%s: holds %s/%s, whose file is %s", name, r.Namespace, r.Workload, r.FileName()))
	}
	for _, d := range r.DiscoveryNames {
		if !mesh.ValidDiscoveryName(d) {
			errs = append(errs, fmt.Errorf("%s: discoveryNames: %q; allowed: up to 64 of [a-z0-9_-], not starting with '-'", name, d))
		}
	}
	if len(r.Keys) == 0 {
		errs = append(errs, fmt.Errorf("%s: keys: is empty; allowed: public P-256 keys (JWK)", name))
	}
	for i, k := range r.Keys {
		if p, ok := k.Key.(*ecdsa.PublicKey); !ok || p.Curve != elliptic.P256() || k.KeyID == "" {
			errs = append(errs, fmt.Errorf("%s: keys[%d]: allowed: a public P-256 key with a kid", name, i))
		}
	}
	return r, errors.Join(errs...)
}

// Find is the workload of that namespace and name, as registered now.
func (w *Workloads) Find(namespace, name string) (mesh.Workload, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	found, ok := w.byName[namespace+"/"+name]
	return found, ok
}

// key finds a join key; an id that is not known makes it read the files again.
func (w *Workloads) key(id string) (joinKey, bool, error) {
	w.mu.Lock()
	k, ok := w.byKey[id]
	w.mu.Unlock()
	if ok {
		return k, true, nil
	}
	err := w.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	k, ok = w.byKey[id]
	return k, ok, err
}

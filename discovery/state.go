package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patchbay/discovery/cloud"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

// saveEvery bounds how often a changing namespace is written to disk.
const saveEvery = time.Second

const stateVersion = 1

// state is the last known good of a namespace on disk. It holds what the
// registry said, not what became of it, so that it is read by the same code.
type state struct {
	Version   int                   `json:"version"`
	Namespace string                `json:"namespace"`
	HTTPName  string                `json:"http_name"`
	Saved     time.Time             `json:"saved"`
	VIPs      map[string]netip.Addr `json:"vips"`
	Services  []stateService        `json:"services"`
}

type stateService struct {
	cloud.Summary
	DiscoveryName string            `json:"discovery_name"`
	Attributes    map[string]string `json:"attributes"`
	Instances     []stateInstance   `json:"instances"`
}

type stateInstance struct {
	ID         string            `json:"id"`
	Health     string            `json:"health"`
	Attributes map[string]string `json:"attributes"`
}

func (n *namespace) stateFile() string {
	return filepath.Join(n.cfg.StateDir, n.want.Name+".json")
}

// keep shows what is on disk when patience is over, and writes what changes.
func (n *namespace) keep(ctx context.Context) {
	patience := time.NewTimer(n.cfg.Patience)
	defer patience.Stop()
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	failed := false
	for {
		select {
		case <-patience.C:
			n.mu.Lock()
			n.fallback = true
			n.publish()
			n.mu.Unlock()
			continue
		case <-save.C:
		case <-ctx.Done():
		}
		if err := n.save(); err != nil && !failed {
			n.log.Warn("can't keep the last known good state on disk", "error", err)
			failed = true
		} else if err == nil {
			failed = false
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// load takes in what a former process knew. A file that can't be read is put
// aside and the start is a cold one.
func (n *namespace) load() {
	if n.cfg.StateDir == "" {
		return
	}
	b, err := os.ReadFile(n.stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var st state
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err == nil && (st.Version != stateVersion || st.Namespace != n.want.Name) {
		err = fmt.Errorf("it is of version %d for namespace %q", st.Version, st.Namespace)
	}
	if err != nil {
		n.log.Warn("the last known good state on disk can't be used; it is put aside", "file", n.stateFile(), "error", err)
		_ = os.Rename(n.stateFile(), n.stateFile()+".bad") // a second start must not fail on it again; if this does, it is read again
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cloud.HTTPName = st.HTTPName
	if st.VIPs != nil {
		n.vips = st.VIPs
	}
	for _, sv := range st.Services {
		if name, ok := localName(sv.DiscoveryName); ok {
			n.services[name] = restored(n, name, sv)
		}
	}
	n.loaded = true
}

func restored(n *namespace, name string, sv stateService) *service {
	s := newService(n, name)
	s.info = sv.Summary
	s.known = true
	s.attrs = sv.Attributes
	if s.attrs == nil {
		s.attrs = map[string]string{}
	}
	parsed, err := record.ParseService(s.attrs)
	switch {
	case err == nil:
		s.settings = &parsed
	case !errors.Is(err, record.ErrNoSettings):
		s.broken = true
	}
	for _, i := range sv.Instances {
		if inst, err := cloud.Parse(i.ID, i.Health, i.Attributes); err == nil {
			s.belief.Good = append(s.belief.Good, inst)
		}
	}
	slices.SortFunc(s.belief.Good, cloud.Instance.Compare)
	s.rebuild()
	return s
}

// save writes the state if it has changed: a new file beside the old one,
// flushed, then renamed over it. At every moment one of the two is whole.
func (n *namespace) save() error {
	if n.cfg.StateDir == "" {
		return nil
	}
	n.mu.Lock()
	if !n.dirty {
		n.mu.Unlock()
		return nil
	}
	n.dirty = false
	st := n.state()
	n.mu.Unlock()
	err := writeFile(n.stateFile(), st)
	if err != nil {
		n.mu.Lock()
		n.dirty = true
		n.mu.Unlock()
	}
	return err
}

func (n *namespace) state() state {
	st := state{Version: stateVersion, Namespace: n.want.Name, HTTPName: n.cloud.HTTPName, Saved: time.Now().UTC(), VIPs: map[string]netip.Addr{}}
	for _, s := range n.services {
		if s.built == nil {
			continue
		}
		sv := stateService{Summary: s.info, DiscoveryName: s.name.DiscoveryName, Attributes: s.attrs}
		for _, i := range s.belief.Good {
			if !s.announced(i.ID()) {
				sv.Instances = append(sv.Instances, stateInstance{i.ID(), i.HealthWord, i.Attributes})
			}
		}
		for _, a := range s.built.Aliases {
			st.VIPs[a.DNSName] = n.vips[a.DNSName]
		}
		st.Services = append(st.Services, sv)
	}
	return st
}

func writeFile(file string, st state) error {
	b, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("keep state: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*.tmp")
	if err != nil {
		return fmt.Errorf("keep state: %w", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it may be gone already
		return fmt.Errorf("keep state: %w", err)
	}
	return syncDir(filepath.Dir(file))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("keep state: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// localName is the discoveryName in the mesh of a service of the registry.
func localName(cloudName string) (string, bool) {
	n := strings.ToLower(cloudName)
	return n, mesh.ValidDiscoveryName(n)
}

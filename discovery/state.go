package discovery

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patchbay/discovery/cloud"
	"patchbay/discovery/disk"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

// saveEvery bounds how often a changing namespace is written to disk.
const saveEvery = time.Second

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
	st, err := disk.Load(n.stateFile(), n.want.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		n.log.Warn("the last known good state on disk can't be used; it is put aside", "error", err)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cloud.HTTPName, n.cloud.Owner = st.HTTPName, st.Owner
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

func restored(n *namespace, name string, sv disk.Service) *service {
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
	s.rebuild(mesh.Detection{At: time.Now(), By: "disk"})
	return s
}

// save writes the state if it has changed.
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
	err := disk.Save(n.stateFile(), st)
	if err != nil {
		n.mu.Lock()
		n.dirty = true
		n.mu.Unlock()
	}
	return err
}

func (n *namespace) state() disk.State {
	st := disk.State{Namespace: n.want.Name, HTTPName: n.cloud.HTTPName, Owner: n.cloud.Owner, Saved: time.Now().UTC(), VIPs: map[string]netip.Addr{}}
	for _, s := range n.services {
		if s.built == nil {
			continue
		}
		sv := disk.Service{Summary: s.info, DiscoveryName: s.name.DiscoveryName, Attributes: s.attrs}
		for _, i := range s.belief.Good {
			if !s.announced(i.ID()) {
				sv.Instances = append(sv.Instances, disk.Instance{ID: i.ID(), Health: i.HealthWord, Attributes: i.Attributes})
			}
		}
		for _, a := range s.built.Aliases {
			st.VIPs[a.DNSName] = n.vips[a.DNSName]
		}
		st.Services = append(st.Services, sv)
	}
	return st
}

// localName is the discoveryName in the mesh of a service of the registry.
func localName(cloudName string) (string, bool) {
	n := strings.ToLower(cloudName)
	return n, mesh.ValidDiscoveryName(n)
}

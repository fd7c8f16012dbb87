package mesh

import "slices"

// Override shows f(service) instead of a service, from now on and through all
// its changes, until undo is called. f must not modify what it is given. It is
// false, and nothing happens, if the service does not exist or is overridden
// already.
func (s *Store) Override(name ServiceName, f func(*Service) *Service) (undo func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now.Service(name)
	if _, taken := s.overrides[name]; taken || now == nil {
		return nil, false
	}
	if s.overrides == nil {
		s.overrides = map[ServiceName]override{}
	}
	s.overrides[name] = override{show: f, real: now}
	s.swap(name, f(now))
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		o, there := s.overrides[name]
		if delete(s.overrides, name); there && s.now.Service(name) != nil {
			s.swap(name, o.real)
		}
	}, true
}

// OverrideLeaf shows l instead of the leaf of its service, from now on and
// through its renewals, until undo is called. It is false, and nothing happens,
// if the service has no leaf or shows another already.
func (s *Store) OverrideLeaf(l *Leaf) (undo func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now.Leaves[l.Service]
	if _, taken := s.held[l.Service]; taken || now == nil {
		return nil, false
	}
	if s.held == nil {
		s.held = map[ServiceName]*Leaf{}
	}
	s.held[l.Service] = now
	s.showLeaf(l)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if held, there := s.held[l.Service]; there {
			delete(s.held, l.Service)
			s.showLeaf(held)
		}
	}, true
}

// override is one service that is shown as another.
type override struct {
	show func(*Service) *Service
	real *Service
}

// shown is what is shown of a service. The store is locked.
func (s *Store) shown(v *Service) *Service {
	o, there := s.overrides[v.Name]
	if !there {
		return v
	}
	o.real = v
	s.overrides[v.Name] = o
	return o.show(v)
}

// swap shows another service in the place of the one of its name. The store is
// locked.
func (s *Store) swap(name ServiceName, v *Service) {
	snap := s.next()
	snap.Services = slices.Clone(s.now.Services)
	i, _ := slices.BinarySearchFunc(snap.Services, name, func(v *Service, n ServiceName) int { return v.Name.Compare(n) })
	snap.Services[i] = v
	s.publish(snap)
}

package discovery

import (
	"time"

	"patchbay/discovery/cloud"
	"patchbay/discovery/pace"
	"patchbay/mesh"
)

// Share divides the polling among replicas. What others tell is a hint like any
// other: it makes this replica ask for itself. All methods are safe for
// concurrent use and do not block.
type Share interface {
	// Elsewhere reports whether another replica, which is heard just now, asks
	// about a service, and the mark of the answer that it told of last.
	Elsewhere(mesh.ServiceName) (mark uint64, yes bool)
	// Complete reports whether every replica that there is is heard: then all
	// that is registered anywhere is told here.
	Complete() bool
	// Saw tells the others of an answer. The same one again costs nothing.
	Saw(name mesh.ServiceName, mark uint64)
}

// Told says that another replica has an answer of that mark. If it is not the
// one that is known here, the service is asked for at once.
func (c *CloudMap) Told(name mesh.ServiceName, mark uint64) {
	n := c.names[name.Namespace]
	if n == nil {
		return
	}
	n.mu.Lock()
	s := n.services[name.DiscoveryName]
	same := s != nil && s.mark == mark
	if s != nil && !same {
		s.told = mark
	}
	n.mu.Unlock()
	if !same {
		n.hint(name, true, "replica")
	}
}

// Reconsider says that Elsewhere may answer differently from now on. What is
// now asked for here is spread over a few seconds.
func (c *CloudMap) Reconsider() {
	now := time.Now()
	for _, n := range c.names {
		n.mu.Lock()
		for _, s := range n.services {
			s.timer.Adopt(now, n.cfg.Pace.Hinted)
			if !s.relied() && s.nextSetting.Sub(now) > n.cfg.Settings {
				s.nextSetting = now.Add(pace.Jitter(n.cfg.Settings))
			}
			poke(s.wake)
		}
		n.mu.Unlock()
	}
}

// relied reports whether another replica asks about the service, and this one
// knows what it knows.
func (s *service) relied() bool {
	if s.ns.cfg.Share == nil {
		return false
	}
	mark, yes := s.ns.cfg.Share.Elsewhere(s.name)
	return yes && mark == s.mark
}

// behindAfter is how many calls in a row must fail until what another replica
// told, and this one could not see, makes it behind.
const behindAfter = 3

// behind reports whether another replica has an answer that this one can't get.
// It stays so when the other is gone: what is shown here is known to be old.
func (s *service) behind() bool {
	return s.told != 0 && s.told != s.mark && s.failures >= behindAfter
}

// hinted reports whether somebody tells of changes of the service.
func (s *service) hinted() bool {
	c := s.ns.cfg
	return s.ns.watched() || c.Events != nil && c.Events() || s.info.Managed && (c.Share == nil || c.Share.Complete())
}

// settingsPeriod is the time until the service's attributes are read again.
func (s *service) settingsPeriod() time.Duration {
	d := s.ns.cfg.Settings
	if s.settings == nil && !s.info.Managed || s.relied() {
		d *= 5
	}
	return pace.Jitter(d)
}

// saw marks what is known and tells the other replicas.
func (s *service) saw() {
	if !s.resolved() {
		return
	}
	s.mark = s.content ^ cloud.Mark(s.attrs)
	if s.ns.cfg.Share != nil {
		s.ns.cfg.Share.Saw(s.name, s.mark)
	}
}

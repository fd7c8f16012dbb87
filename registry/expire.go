package registry

import (
	"cmp"
	"slices"
	"time"

	"patchbay/registry/lease"
	"patchbay/registry/state"
	"patchbay/registry/watch"
)

// expire carries out what is due of the leases.
func (s *Server) expire() error {
	due, held := s.leases.Due(time.Now())
	for _, h := range held {
		s.warnHeld(h)
	}
	defer func() { s.o.Metrics.SetLeases(s.leases.Len()) }()
	missed, err := s.one.Missed(due)
	for part := range slices.Chunk(missed, s.batch()) {
		err = cmp.Or(err, s.db.Update(func(tx *state.Tx) error {
			for _, d := range part {
				s.expireOne(tx, d)
			}
			return nil
		}))
	}
	if err != nil {
		for _, d := range due { // those that are done are no longer theirs
			s.leases.Undo(d, time.Now(), again)
		}
	}
	return err
}

func (s *Server) expireOne(tx *state.Tx, d lease.Due) {
	if !s.leases.Valid(d) { // it was renewed
		return
	}
	i := tx.Instances.Get(d.Key)
	if i == nil { // it is being deregistered
		tx.After(func() { s.leases.Drop(d.Key) })
		return
	}
	v := tx.Services.Get(i.ServiceID)
	log := s.o.Log.With("service", v.Name, "instance", i.ID, "lease", i.Period().String())
	if d.Step == lease.Gone {
		s.removeInstance(tx, v, i)
		tx.After(func() {
			s.leases.Drop(d.Key)
			s.o.Metrics.Expired("removed")
			log.Warn("instance removed: its lease has run out twice")
		})
		return
	}
	if !i.Expired {
		tx.Instances.Edit(d.Key).Expired = true
		s.tellOf(tx, watch.Health, v)
	}
	tx.After(func() {
		s.o.Metrics.Expired("unhealthy")
		log.Warn("instance UNHEALTHY: its lease has run out")
	})
}

func (s *Server) warnHeld(h lease.Held) {
	if h.Group == "" {
		s.o.Metrics.Held("registry")
		s.o.Log.Warn("no lease of the registry is renewed any more; whoever renews them is gone, not the instances: nothing is removed", "leases", h.Of)
		return
	}
	name := h.Group
	_ = s.db.View(func(v *state.View) { // the name is only for the log
		if svc := v.Service(h.Group); svc != nil {
			name = svc.Name
		}
	})
	s.o.Metrics.Held("service")
	s.o.Log.Warn("over half of a service's leases have run out together; nothing of it is removed", "service", name, "silent", h.Count, "leases", h.Of)
}

package registry

import (
	"encoding/json"
	"maps"
	"strconv"
	"time"

	"patchbay/registry/cloudmap"
	"patchbay/registry/state"
	"patchbay/registry/watch"
)

func instanceLock(service, instance string) string { return "instance/" + service + "/" + instance }

func (s *Server) registerInstance(in *cloudmap.RegisterInstanceRequest) (*cloudmap.OperationStarted, error) {
	id := plainID(kindService, in.ServiceID)
	sub := submission{of: cloudmap.RegisterInstance, token: in.CreatorRequestID, request: in, lock: instanceLock(id, in.InstanceID)}
	return s.submit(sub, func(tx *state.Tx, o *state.Operation) error {
		v, err := findService(tx.Services.Get, in.ServiceID)
		if err != nil {
			return err
		}
		var p cloudmap.Problems
		in.CheckFor(&p, v.DNS, v.Check != nil, tx.Namespaces.Get(v.NamespaceID).Type)
		if err := p.Err(); err != nil {
			return err
		}
		i := &state.Instance{ServiceID: v.ID, ID: in.InstanceID, Creator: in.CreatorRequestID, Attributes: in.Attributes}
		if err := roomFor(tx, v, i); err != nil {
			return err
		}
		if v.Custom != nil {
			i.Health = cloudmap.Healthy
			if h := in.Attributes[cloudmap.AttrInitHealth]; h != "" {
				i.Health = h
			}
		}
		i.Lease, _ = strconv.Atoi(in.Attributes[cloudmap.AttrLease]) // none, or checked
		o.Namespace, o.Service = v.NamespaceID, v.ID
		o.Targets = map[string]string{cloudmap.TargetService: v.ID, cloudmap.TargetInstance: i.ID}
		return carry(o, i)
	})
}

// roomFor holds a registration against AWS's quota, which it doesn't adjust:
// one call of DiscoverInstances can then be complete.
func roomFor(tx *state.Tx, v *state.Service, i *state.Instance) error {
	if tx.Members.Get(v.ID).Instances >= cloudmap.MaxServiceInstances && tx.Instances.Get(i.Key()) == nil {
		return cloudmap.ResourceLimitExceeded("Service %s has %d instances, the most that it can have.", v.ID, cloudmap.MaxServiceInstances)
	}
	return nil
}

// registered carries out registerInstance.
func (s *Server) registered(tx *state.Tx, o *state.Operation) error {
	i := &state.Instance{}
	if err := json.Unmarshal(o.Payload, i); err != nil {
		return err
	}
	v := tx.Services.Get(i.ServiceID)
	if v == nil {
		return cloudmap.ServiceNotFound(i.ServiceID)
	}
	if err := roomFor(tx, v, i); err != nil {
		return err
	}
	old := tx.Instances.Get(i.Key())
	if old == nil || !maps.Equal(old.Attributes, i.Attributes) {
		m := tx.Members.Edit(v.ID)
		m.Revision++
		if old == nil {
			m.Instances++
		}
		s.tellOf(tx, watch.Instances, v)
	} else if health(v, old) != health(v, i) {
		s.tellOf(tx, watch.Health, v)
	}
	tx.Instances.Put(i.Key(), i)
	s.leases.Touch(i.Key(), time.Now())
	tx.After(func() {
		if i.Lease > 0 {
			s.leases.Grant(i.Key(), v.ID, i.Period(), false, time.Now())
		} else {
			s.leases.Drop(i.Key())
		}
	})
	return nil
}

func (s *Server) deregisterInstance(in *cloudmap.InstanceRequest) (*cloudmap.OperationStarted, error) {
	id := plainID(kindService, in.ServiceID)
	sub := submission{of: cloudmap.DeregisterInstance, lock: instanceLock(id, in.InstanceID)}
	return s.submit(sub, func(tx *state.Tx, o *state.Operation) error {
		v, err := findService(tx.Services.Get, in.ServiceID)
		if err != nil {
			return err
		}
		if tx.Instances.Get(state.InstanceKey(v.ID, in.InstanceID)) == nil {
			return cloudmap.InstanceNotFound(v.ID, in.InstanceID)
		}
		o.Namespace, o.Service = v.NamespaceID, v.ID
		o.Targets = map[string]string{cloudmap.TargetService: v.ID, cloudmap.TargetInstance: in.InstanceID}
		return nil
	})
}

func (s *Server) deregistered(tx *state.Tx, o *state.Operation) error {
	key := state.InstanceKey(o.Service, o.Targets[cloudmap.TargetInstance])
	if i := tx.Instances.Get(key); i != nil { // its lease may have ended meanwhile
		s.removeInstance(tx, tx.Services.Get(o.Service), i)
		tx.After(func() { s.leases.Drop(key) })
	}
	return nil
}

func (s *Server) removeInstance(tx *state.Tx, v *state.Service, i *state.Instance) {
	tx.Instances.Delete(i.Key())
	m := tx.Members.Edit(v.ID)
	m.Instances--
	m.Revision++
	s.tellOf(tx, watch.Instances, v)
}

// findInstance looks an instance up and the service that it belongs to.
func findInstance(v *state.View, service, instance string) (*state.Service, *state.Instance, error) {
	svc, err := findService(v.Service, service)
	if err != nil {
		return nil, nil, err
	}
	i := v.Instance(svc.ID, instance)
	if i == nil {
		return nil, nil, cloudmap.InstanceNotFound(svc.ID, instance)
	}
	return svc, i, nil
}

// setHealth also renews the instance's lease, where it has one, whichever
// status it carries and whether or not that can be set.
func (s *Server) setHealth(in *cloudmap.UpdateHealthRequest) (*cloudmap.Empty, error) {
	var v *state.Service
	var i *state.Instance
	err := s.view(func(view *state.View) (err error) {
		v, i, err = findInstance(view, in.ServiceID, in.InstanceID)
		return err
	})
	if err != nil {
		return nil, err
	}
	renewed := i.Expired
	if i.Lease > 0 {
		found, silent := s.leases.Renew(i.Key(), time.Now())
		if !found {
			return nil, cloudmap.InstanceNotFound(v.ID, i.ID)
		}
		if err := s.one.Beat(i); err != nil {
			return nil, err
		}
		renewed = renewed || silent
	}
	if renewed || v.Custom != nil && in.Status != set(i) {
		if err := s.db.Update(func(tx *state.Tx) error { return s.changeHealth(tx, i.Key(), in) }); err != nil {
			return nil, err
		}
	}
	if v.Custom == nil {
		return nil, cloudmap.CustomHealthNotFound(v.ID, i.ID)
	}
	return &cloudmap.Empty{}, nil
}

// set is the health that was set last, seen or not.
func set(i *state.Instance) string {
	if i.Next != nil {
		return i.Next.Status
	}
	return i.Health
}

func (s *Server) changeHealth(tx *state.Tx, key string, in *cloudmap.UpdateHealthRequest) error {
	old := tx.Instances.Get(key)
	if old == nil {
		return cloudmap.InstanceNotFound(in.ServiceID, in.InstanceID)
	}
	v, i := tx.Services.Get(old.ServiceID), tx.Instances.Edit(key)
	i.Expired = false
	switch {
	case v.Custom == nil || in.Status == set(old):
	case s.o.HealthDelay == 0:
		i.Health, i.Next = in.Status, nil
	case in.Status == old.Health:
		i.Next = nil
	default:
		i.Next = &state.HealthChange{Status: in.Status, At: now().Add(s.o.HealthDelay)}
		tx.After(s.poke)
	}
	if health(v, old) != health(v, i) {
		s.tellOf(tx, watch.Health, v)
	}
	return nil
}

func (s *Server) describeInstance(i *state.Instance) cloudmap.Instance {
	return cloudmap.Instance{ID: i.ID, Attributes: i.Attributes, CreatedByAccount: s.o.Account}
}

func (s *Server) getInstance(in *cloudmap.InstanceRequest) (*cloudmap.GetInstanceResponse, error) {
	out := &cloudmap.GetInstanceResponse{ResourceOwner: s.o.Account}
	return out, s.view(func(v *state.View) error {
		_, i, err := findInstance(v, in.ServiceID, in.InstanceID)
		if err == nil {
			out.Instance = s.describeInstance(i)
			out.Instance.CreatorRequestID = i.Creator
		}
		return err
	})
}

func (s *Server) listInstances(in *cloudmap.ListInstancesRequest) (*cloudmap.ListInstancesResponse, error) {
	out := &cloudmap.ListInstancesResponse{ResourceOwner: s.o.Account}
	return out, s.view(func(v *state.View) error {
		svc, err := findService(v.Service, in.ServiceID)
		if err != nil {
			return err
		}
		out.Instances, out.NextToken, err = page(v.Instances(svc.ID), in.Page, func(i *state.Instance) (cloudmap.Instance, bool) {
			return s.describeInstance(i), true
		})
		return err
	})
}

func (s *Server) instancesHealth(in *cloudmap.InstancesHealthRequest) (*cloudmap.InstancesHealthResponse, error) {
	out := &cloudmap.InstancesHealthResponse{Status: map[string]string{}}
	return out, s.view(func(v *state.View) error {
		svc, err := findService(v.Service, in.ServiceID)
		if err != nil {
			return err
		}
		wanted := map[string]bool{}
		for _, id := range in.Instances {
			if v.Instance(svc.ID, id) == nil {
				return cloudmap.InstanceNotFound(svc.ID, id)
			}
			wanted[id] = true
		}
		_, out.NextToken, err = page(v.Instances(svc.ID), in.Page, func(i *state.Instance) (struct{}, bool) {
			if len(wanted) == 0 || wanted[i.ID] {
				out.Status[i.ID] = health(svc, i)
			}
			return struct{}{}, true
		})
		return err
	})
}

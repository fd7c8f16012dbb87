// Package replica is what a registry does because others serve the same
// records: it tells its own watchers of their changes, keeps a lease running
// that they were told of, and leaves to each what it has begun.
//
// It must not know the rules of Cloud Map, nor where the records are.
//
// Start reading at [Replica.Foreign].
package replica

import (
	"fmt"
	"time"

	"patchbay/registry/lease"
	"patchbay/registry/state"
	"patchbay/registry/watch"
)

// grace is how long another replica has to finish what it has accepted. Then
// whoever comes first does.
const grace = time.Second

// unheard is when a replica that has not heard of the store says that it is
// not fit to be asked: its answers may be that old.
const unheard = 30 * time.Second

// Replica is one of the registry's. It is safe for concurrent use.
type Replica struct {
	DB     *state.DB
	Leases *lease.Book
	Events *watch.Log
	Poke   func() // has the background work look for something to do
}

// Foreign is what is done about the changes of other replicas.
func (r *Replica) Foreign() state.Foreign {
	return state.Foreign{Namespace: r.namespace, Service: r.service, Instance: r.instance, Operation: r.operation}
}

func (r *Replica) namespace(old, now *state.Namespace) {
	if now == nil {
		now = old
	}
	r.Events.Append(watch.Event{Kind: watch.Namespaces, Namespace: now.HTTPName})
}

func (r *Replica) service(old, now *state.Service) {
	kind := watch.Services
	if now == nil {
		now = old
	} else if old != nil && fmt.Sprint(old.Attributes) != fmt.Sprint(now.Attributes) {
		kind = watch.Attributes
	}
	r.tell(kind, now)
}

// tell is for what one replica may write of a service, while another has
// deleted its namespace: then anything may have changed.
func (r *Replica) tell(kind watch.Kind, v *state.Service) {
	e := watch.Event{Kind: watch.Resync}
	_ = r.DB.View(func(s *state.View) { // it has been read
		if v == nil {
			return
		}
		if n := s.Namespace(v.NamespaceID); n != nil {
			e = watch.Event{Kind: kind, Namespace: n.HTTPName, Service: v.Name}
		}
	})
	r.Events.Append(e)
}

func (r *Replica) instance(old, now *state.Instance) {
	i, kind := now, watch.Instances
	if now == nil {
		i = old
	} else if old != nil && fmt.Sprint(old.Attributes) == fmt.Sprint(now.Attributes) {
		kind = watch.Health
	}
	if now == nil || now.Lease == 0 {
		r.Leases.Drop(i.Key())
	} else { // somebody has heard of it, or has begun to miss it: in both cases a period begins
		r.Leases.Grant(i.Key(), i.ServiceID, i.Period(), i.Expired, time.Now())
		r.Poke()
	}
	if now != nil && now.Next != nil {
		r.Poke()
	}
	var of *state.Service
	_ = r.DB.View(func(s *state.View) { of = s.Service(i.ServiceID) }) // it has been read
	r.tell(kind, of)
}

func (r *Replica) operation(_, now *state.Operation) {
	if now != nil && !now.Done() {
		time.AfterFunc(max(0, time.Until(now.Due))+grace, r.Poke)
	}
}

// Beat says to all replicas that an instance was heard of.
func (r *Replica) Beat(i *state.Instance) error {
	if b := r.DB.Beats(); b != nil {
		return b.Beat(i.Key(), i.Period())
	}
	return nil
}

// Missed are those of the steps for which no other replica has heard of the
// instance either; the others' leases are renewed. On an error nothing is to be
// done: all are due again soon.
func (r *Replica) Missed(due []lease.Due) ([]lease.Due, error) {
	b := r.DB.Beats()
	if b == nil {
		return due, nil
	}
	var missed []lease.Due
	for _, d := range due {
		i, err := r.find(d.Key)
		if err != nil {
			return nil, err
		}
		if i == nil {
			missed = append(missed, d)
			continue
		}
		left, err := b.Heard(d.Key, i.Period())
		if err != nil {
			return nil, err
		}
		if left == 0 || i.Expired && d.Step == lease.Silent {
			missed = append(missed, d)
			continue
		}
		r.Leases.Touch(d.Key, time.Now().Add(left-i.Period()))
	}
	return missed, nil
}

func (r *Replica) find(key string) (i *state.Instance, err error) {
	return i, r.DB.View(func(v *state.View) { i = v.InstanceByKey(key) })
}

// Fit says why this replica should not be asked now, though it still answers.
func (r *Replica) Fit() error {
	if s := r.DB.Silence(); s > unheard {
		return fmt.Errorf("the registry has not heard of etcd for %s: it answers from memory, and takes no changes", s.Round(time.Second))
	}
	return nil
}

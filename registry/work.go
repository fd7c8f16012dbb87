package registry

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"patchbay/registry/cloudmap"
	"patchbay/registry/state"
	"patchbay/registry/watch"
)

const (
	// most is how many operations share a write, and perOperation how many
	// records one may change, where the store has a limit.
	most, perOperation = 256, 3
	// A finished operation is kept for keepFor, and no more than keepMost are:
	// what a client still asks for, without growing for ever.
	keepFor  = 24 * time.Hour
	keepMost = 10000
	// again is the pause after a write that the store has refused.
	again = time.Second
)

// Run carries out asynchronous operations, makes set health seen, ends leases
// and forgets old operations, until ctx ends; it returns ctx's cause, or the
// error of a store that can't be read. A store that can't be written is tried
// again. Run may run once at a time.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.db.Follow(ctx) })
	g.Go(func() error { return s.runWork(ctx) })
	return g.Wait()
}

func (s *Server) runWork(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.wake:
		case <-timer.C:
		}
		var next time.Time
		err := s.Load()
		if err == nil {
			next, err = s.work()
		}
		if err != nil {
			s.o.Metrics.Refused()
			next = time.Now().Add(again)
		}
		switch {
		case err != nil && !failing:
			s.o.Log.Error("the registry can't write; it tries again", "error", err.Error())
		case err == nil && failing:
			s.o.Log.Info("the registry can write again")
		}
		failing = err != nil
		timer.Reset(time.Until(next))
	}
}

func (s *Server) batch() int {
	if n := s.db.Most(); n > 0 {
		return n / perOperation
	}
	return most
}

// work does everything that is due, and returns when there will be more.
func (s *Server) work() (next time.Time, err error) {
	for more := true; more; {
		if more, err = s.carryOut(); err != nil {
			return next, err
		}
	}
	if err := s.showHealth(); err != nil {
		return next, err
	}
	if err := s.expire(); err != nil {
		return next, err
	}
	next = time.Now().Add(time.Hour)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	sooner(s.leases.Next())
	return next, s.view(func(v *state.View) error {
		for o := range v.Unfinished().All() {
			sooner(o.Due)
			break // they are due in the order in which they came
		}
		for i := range v.Pending() {
			sooner(i.Next.At)
		}
		for o := range v.Operations().All() {
			if o.Done() {
				sooner(o.Finished.Add(keepFor))
			}
			break
		}
		return nil
	})
}

// carryOut carries out one batch of operations and forgets old ones. It
// reports whether there may be more.
func (s *Server) carryOut() (more bool, err error) {
	var due, old []string
	at, batch := time.Now(), s.batch()
	err = s.view(func(v *state.View) error {
		for o := range v.Unfinished().All() {
			if o.Due.After(at) || len(due) == batch {
				break
			}
			due = append(due, o.ID)
		}
		surplus := v.Operations().Len() - v.Unfinished().Len() - keepMost
		for o := range v.Operations().All() {
			if !o.Done() || len(old) >= surplus && o.Finished.Add(keepFor).After(at) || len(old) == batch {
				break
			}
			old = append(old, o.ID)
		}
		return nil
	})
	if err != nil || len(due)+len(old) == 0 {
		return false, err
	}
	err = s.db.Update(func(tx *state.Tx) error {
		for _, id := range due {
			if err := s.finish(tx, tx.Operations.Get(id)); err != nil {
				return err
			}
		}
		return nil
	})
	if len(old) > 0 && err == nil {
		err = s.db.Update(func(tx *state.Tx) error {
			for _, id := range old {
				tx.Operations.Delete(id)
			}
			return nil
		})
	}
	return len(due) == batch || len(old) == batch, err
}

// outcomes are what carries operations out, by type.
var outcomes = map[string]func(*Server, *state.Tx, *state.Operation) error{
	cloudmap.CreateNamespace:    (*Server).madeNamespace,
	cloudmap.UpdateNamespace:    (*Server).updatedNamespace,
	cloudmap.DeleteNamespace:    (*Server).deletedNamespace,
	cloudmap.UpdateService:      (*Server).updatedService,
	cloudmap.RegisterInstance:   (*Server).registered,
	cloudmap.DeregisterInstance: (*Server).deregistered,
}

// finish carries out one operation. An error of the API is its outcome.
func (s *Server) finish(tx *state.Tx, o *state.Operation) error {
	if o == nil || o.Done() { // by another replica
		return nil
	}
	err := outcomes[o.Type](s, tx, o)
	failed, is := errors.AsType[*cloudmap.Error](err)
	if err != nil && !is {
		return err
	}
	done := tx.Operations.Edit(o.ID)
	done.Finished, done.Payload = now(), nil
	if is {
		done.ErrorCode, done.ErrorText = failed.Code(), failed.Message
	}
	return nil
}

// showHealth makes seen what was set a HealthDelay ago.
func (s *Server) showHealth() error {
	at := time.Now()
	var due []string
	err := s.view(func(v *state.View) error {
		for i := range v.Pending() {
			if !i.Next.At.After(at) {
				due = append(due, i.Key())
			}
		}
		return nil
	})
	for part := range slices.Chunk(due, s.batch()) {
		err = cmp.Or(err, s.db.Update(func(tx *state.Tx) error {
			for _, key := range part {
				i := tx.Instances.Get(key)
				if i == nil || i.Next == nil || i.Next.At.After(at) {
					continue
				}
				e := tx.Instances.Edit(key)
				e.Health, e.Next = i.Next.Status, nil
				s.tellOf(tx, watch.Health, tx.Services.Get(i.ServiceID))
			}
			return nil
		}))
	}
	return err
}

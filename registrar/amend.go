package registrar

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"patchbay/mesh"
	"patchbay/mesh/record"
)

// Amend changes attributes of a service that exists, besides its settings.
// change says what to do to what stands there; it is asked again until it finds
// nothing more to do, so that a write which another replica was faster with is
// not lost on either side. Its error ends the attempt, and discovery reads the
// service anew: its caller may have believed something else. From what is read
// to what is written passes [record.WriteTime] at most. An error that is a
// *Refusal tells what to do.
func (r *Registrar) Amend(ctx context.Context, name mesh.ServiceName, change func(attrs map[string]string) (record.Change, error)) error {
	k, err := r.lookup(ctx, name, false)
	if err != nil {
		return err
	}
	if k == nil {
		return &Refusal{Reason: ErrInvalid, Service: name, What: "there is no such service", Remedy: "start a task that offers it"}
	}
	done, err := r.turns.take(ctx, "service "+name.String())
	if err != nil {
		return err
	}
	defer done()
	wrote := false
	for i := range writes {
		if i > 1 { // what was written did not read back, or took too long
			if err := sleep(ctx, rand.N(50*time.Millisecond<<i)); err != nil { //nolint:gosec // not a secret
				return err
			}
		}
		more, err := r.amendOnce(ctx, k.id, change)
		switch {
		case isGone(err):
			r.forget(name)
			return err
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && i < writes-1:
			more = true // it may have been written, or not
		case err != nil:
			r.disc.HintSettings(name)
			return err
		}
		if !more {
			if wrote {
				r.disc.HintSettings(name)
			}
			return nil
		}
		wrote = true
	}
	return fmt.Errorf("the attributes of %s were written %d times and do not read back", name, writes)
}

// amendOnce reads, and writes what change wants; it reports whether that was
// anything.
func (r *Registrar) amendOnce(ctx context.Context, id string, change func(attrs map[string]string) (record.Change, error)) (wrote bool, err error) {
	ctx, stop := context.WithTimeout(ctx, record.WriteTime)
	defer stop()
	attrs, err := r.readAttributes(ctx, id)
	if err != nil {
		return false, err
	}
	c, err := change(attrs)
	if err != nil {
		return false, err
	}
	maps.DeleteFunc(c.Put, func(key, value string) bool { return attrs[key] == value })
	if c.Empty() {
		return false, nil
	}
	return true, r.apply(ctx, id, c)
}

package registrar

import (
	"context"
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
// not lost on either side. Its error ends the attempt. An error that is a
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
		attrs, err := r.readAttributes(ctx, k.id)
		if isGone(err) {
			r.forget(name)
		}
		if err != nil {
			return err
		}
		c, err := change(attrs)
		if err != nil {
			return err
		}
		maps.DeleteFunc(c.Put, func(key, value string) bool { return attrs[key] == value })
		if c.Empty() {
			if wrote {
				r.disc.HintSettings(name)
			}
			return nil
		}
		if i > 0 { // what was written did not read back
			if err := sleep(ctx, rand.N(50*time.Millisecond<<i)); err != nil { //nolint:gosec // not a secret
				return err
			}
		}
		wrote = true
		if err := r.apply(ctx, k.id, c); err != nil {
			return err
		}
	}
	return fmt.Errorf("the attributes of %s were written %d times and do not read back", name, writes)
}

package fault

import (
	"context"
	"fmt"
	"time"

	"patchbay/mesh"
)

// expire shows a service with a leaf that soon ends: its own issuer's, so that
// nothing but its time is wrong with it. The service's own is kept, and renewed,
// beside.
func (i *Injector) expire(ctx context.Context, s *mesh.Service, w Wanted) (made, error) {
	if s.TLS == nil {
		return made{}, fmt.Errorf("%s has no TLS, and so no certificate", w.Service)
	}
	leaf, err := i.Brief(ctx, s.Name, w.Life)
	if err != nil {
		return made{}, fmt.Errorf("%w\nthe issuer may give no certificate as short as --life %v: try a longer one (the default of step-ca is 5m)", err, w.Life)
	}
	undo, ok := i.Store.OverrideLeaf(leaf)
	if !ok {
		return made{}, busy(w.Service + " has no certificate yet, or is to expire already: one at a time")
	}
	i.expiring.Store(s.Name, leaf)
	return made{
		text:    fmt.Sprintf("the certificate of %s ends at %s and is not renewed", w.Service, leaf.NotAfter.UTC().Format(time.RFC3339)),
		expires: leaf.NotAfter,
		undo: func() {
			i.expiring.Delete(s.Name)
			undo()
		},
	}, nil
}

// Expiring is the leaf that a service is shown with on purpose; nil: its own.
func (i *Injector) Expiring(name mesh.ServiceName) *mesh.Leaf {
	if leaf, there := i.expiring.Load(name); there {
		return leaf.(*mesh.Leaf) //nolint:forcetypeassert // nothing else is stored
	}
	return nil
}

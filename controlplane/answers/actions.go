package answers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"patchbay/admin"
	"patchbay/admin/api"
	"patchbay/mesh"
	"patchbay/shift"
)

// rotate renews the leaf of ?service=discoveryName.namespace now.
func (s *Source) rotate(ctx context.Context, v url.Values) (any, error) {
	for _, one := range s.Store.Snapshot().Services {
		if one.Name.String() != v.Get("service") {
			continue
		}
		leaf, err := s.Rotator.Rotate(ctx, one.Name)
		if err != nil {
			return nil, err
		}
		return map[string]string{"service": one.Name.String(), "serial": leaf.Serial, "notAfter": leaf.NotAfter.UTC().Format(time.RFC3339)}, nil
	}
	return nil, admin.Invalid{Err: fmt.Errorf("service %q is not in the mesh; ask with ?service=discoveryName.namespace", v.Get("service"))}
}

// shiftAction is POST /api/v1/shift.
func (s *Source) shiftAction(ctx context.Context, v url.Values) (any, error) {
	sh, err := shift.Orders{Store: s.Store, Registry: s.Registrar}.Do(ctx, v)
	if _, wrong := errors.AsType[*shift.Wrong](err); wrong {
		return nil, admin.Invalid{Err: err}
	}
	if _, lost := errors.AsType[*shift.Lost](err); lost {
		return nil, admin.Conflict{Err: err}
	}
	if err != nil || sh == nil {
		return &api.Deployment{}, err
	}
	return shift.Answer(&mesh.Deployment{Shift: *sh}), nil
}

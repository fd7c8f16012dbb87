package registrar

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/mesh"
	"patchbay/mesh/record"
)

// present reads an instance; nil if there is none. It refuses one that belongs
// to another workload.
func (r *Registrar) present(ctx context.Context, k *known, i Instance) (*record.Instance, error) {
	id := i.ID()
	out, err := r.api.GetInstance(ctx, &sd.GetInstanceInput{ServiceId: &k.id, InstanceId: &id})
	if _, ok := errors.AsType[*types.InstanceNotFound](err); ok {
		return nil, nil //nolint:nilnil // "not there" is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("read instance %s of %s: %w", id, i.Service(), err)
	}
	attrs := out.Instance.Attributes
	if owner := attrs[record.AttrOwner]; owner != i.Node.Workload.String() {
		if owner == "" {
			owner = "nobody that patchbay knows"
		}
		return nil, &Refusal{Reason: ErrOtherOwner, Service: i.Service(), ARN: k.arn,
			What:   "the instance " + id + " exists and belongs to " + owner,
			Remedy: "give the task another name, or deregister that instance if its task is gone"}
	}
	there, err := record.ParseInstance(id, mesh.Unknown, attrs)
	if err != nil {
		there = record.Instance{} // damaged, but ours: it is written anew
	}
	return &there, nil
}

// put registers the instance unless it is there just so.
func (r *Registrar) put(ctx context.Context, k *known, req Request, hash string, there *record.Instance) error {
	done, err := r.turns.take(ctx, req.turn())
	if err != nil {
		return err
	}
	defer done()
	r.mu.Lock()
	_, leaving := r.failed[req.key()]
	delete(r.failed, req.key())
	r.mu.Unlock()
	since, err := r.writeInstance(ctx, k, req, hash, there, leaving)
	if err != nil {
		return err
	}
	l := &registered{entry: entry{k.id, k.account, []time.Time{since}}, owner: req.Node.Workload.String(), health: req.Health, seen: time.Now()}
	if leaving {
		l.doubted = time.Now().Add(late)
	}
	l.look = l.nextLook()
	r.mu.Lock()
	r.live[req.key()] = l
	r.forgetDead()
	r.mu.Unlock()
	return nil
}

// forgetDead drops, now and then, what has not given a sign for so long that
// its lease is over: tasks that died without a word. r.mu is held.
func (r *Registrar) forgetDead() {
	const leases = 10
	if r.cfg.Lease == 0 || time.Since(r.swept) < r.cfg.Lease {
		return
	}
	r.swept = time.Now()
	maps.DeleteFunc(r.live, func(_ key, l *registered) bool { return time.Since(l.seen) > leases*r.cfg.Lease })
}

// writeInstance writes anew what was about to leave: discovery hides the older
// registration.
func (r *Registrar) writeInstance(ctx context.Context, k *known, req Request, hash string, there *record.Instance, leaving bool) (since time.Time, err error) {
	want := record.Instance{
		Endpoint: mesh.Endpoint{
			InstanceID: req.ID(), Addr: netip.AddrPortFrom(req.Peer.Unmap(), req.ListenerPort), Zone: req.Zone,
			Weight: 1, Revision: req.Revision, TLS: req.TLS != nil,
		},
		Protocol: req.Protocol, Settings: hash, Owner: req.Node.Workload.String(), Task: req.Node.Task, Lease: r.cfg.Lease,
	}
	if there != nil && !leaving {
		want.Since = there.Since
		if maps.Equal(want.Attributes(), there.Attributes()) {
			err := r.writeHealth(ctx, k.id, req.ID(), req.Health)
			if !errors.Is(err, ErrNotRegistered) {
				return want.Since, err
			}
		}
	}
	want.Since = time.Now().UTC().Truncate(time.Millisecond)
	attrs := want.Attributes()
	if req.Health != mesh.Unknown {
		attrs[record.AttrInitHealth] = req.Health.String()
	}
	for {
		out, err := r.api.RegisterInstance(ctx, &sd.RegisterInstanceInput{ServiceId: &k.id, InstanceId: aws.String(req.ID()), Attributes: attrs})
		if busy, ok := errors.AsType[*types.DuplicateRequest](err); ok { // one operation for each instance at a time
			if err := r.settleFirst(ctx, busy, k.account); err != nil {
				return time.Time{}, err
			}
			continue
		}
		if err == nil {
			_, err = r.finish(ctx, aws.ToString(out.OperationId), k.account)
		}
		if err != nil {
			r.givenUp(req.Instance, entry{k.id, k.account, []time.Time{want.Since}}, err)
			return time.Time{}, fmt.Errorf("register instance %s of %s: %w", req.ID(), req.Service(), err)
		}
		return want.Since, nil
	}
}

// owned is where an instance of the workload is registered, as far as it is known;
// without a serviceID there is no such instance.
func (r *Registrar) owned(ctx context.Context, i Instance) (entry, error) {
	r.mu.Lock()
	l, u := r.live[i.key()], r.unsure[i.key()]
	r.mu.Unlock()
	switch owner := i.Node.Workload.String(); {
	case l != nil && l.owner == owner:
		return l.entry, nil
	case u.owner == owner && time.Now().Before(u.until): // the registry may not show it yet
		return u.entry, nil
	}
	k, err := r.lookup(ctx, i.Service(), false)
	if errors.Is(err, ErrNamespace) || err == nil && k == nil {
		return entry{}, nil
	}
	if err != nil {
		return entry{}, err
	}
	there, err := r.present(ctx, k, i)
	if err != nil || there == nil {
		return entry{}, err
	}
	at := entry{serviceID: k.id, account: k.account}
	if !there.Since.IsZero() {
		at.since = []time.Time{there.Since}
	}
	return at, nil
}

func (r *Registrar) remove(ctx context.Context, instanceID string, at entry) error {
	for {
		out, err := r.api.DeregisterInstance(ctx, &sd.DeregisterInstanceInput{ServiceId: &at.serviceID, InstanceId: &instanceID})
		var none *types.InstanceNotFound
		var busy *types.DuplicateRequest
		switch {
		case errors.As(err, &none), isGone(err):
			return nil
		case errors.As(err, &busy):
			if err := r.settleFirst(ctx, busy, at.account); err != nil {
				return err
			}
			continue
		case err != nil:
			return fmt.Errorf("deregister instance %s: %w", instanceID, err)
		}
		if _, err := r.finish(ctx, aws.ToString(out.OperationId), at.account); err != nil {
			return fmt.Errorf("deregister instance %s: %w", instanceID, err)
		}
		return nil
	}
}

// writeHealth writes a health that is known. It also renews a lease.
func (r *Registrar) writeHealth(ctx context.Context, serviceID, instanceID string, h mesh.Health) error {
	status := types.CustomHealthStatusHealthy
	if h == mesh.Unhealthy {
		status = types.CustomHealthStatusUnhealthy
	}
	_, err := r.api.UpdateInstanceCustomHealthStatus(ctx, &sd.UpdateInstanceCustomHealthStatusInput{
		ServiceId: &serviceID, InstanceId: &instanceID, Status: status,
	})
	var none *types.CustomHealthNotFound
	var lost *types.InstanceNotFound
	switch {
	case err == nil, errors.As(err, &none): // a service that was handed over to us may have no health check
		return nil
	case errors.As(err, &lost), isGone(err):
		return fmt.Errorf("write the health of instance %s: %w: %w", instanceID, ErrNotRegistered, err)
	}
	return fmt.Errorf("write the health of instance %s: %w", instanceID, err)
}

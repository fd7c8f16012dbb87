package registrar

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/aws/smithy-go"

	"patchbay/mesh"
	"patchbay/mesh/record"
)

// A write whose caller stopped waiting, because its context or its time ended,
// may still be carried out, after what was written since. Cloud Map can't take it
// back: it orders the operations on one instance, but only those that it has
// already, and a deregistration has no condition. So whoever wrote the opposite
// looks again for a while. What a restart forgets of this is left to leases and
// to the reaper.
const (
	// late is for how long a write that was given up is reckoned with. The SDK
	// gives a call up within a minute, and Cloud Map's operations take seconds.
	late = 2 * time.Minute
	// doubtEvery is the longest pause between two looks meanwhile.
	doubtEvery = 5 * time.Second
)

// unsure is a registration that was given up: that the registry does not show it
// means nothing.
type unsure struct {
	entry
	owner string
	until time.Time
}

// failed is a deregistration that did not go through, or one that went through
// before the registration that it is of.
type failed struct {
	entry
	turn  string
	until time.Time // so long it is looked for; zero: until it has been deregistered
}

// givenUp remembers a registration that failed, unless the registry itself has
// said that it does not carry it out.
func (r *Registrar) givenUp(i Instance, at entry, err error) {
	if said, ok := errors.AsType[smithy.APIError](err); ok && said.ErrorFault() == smithy.FaultClient || errors.Is(err, errOperation) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.unsure, func(_ key, u unsure) bool { return time.Now().After(u.until) })
	at.since = slices.Concat(at.since, r.unsure[i.key()].since)
	r.unsure[i.key()] = unsure{entry: at, owner: i.Node.Workload.String(), until: time.Now().Add(late)}
}

// removeAgain leaves it to Run to deregister an instance again, if that failed
// with err, or if its registration may still be carried out.
func (r *Registrar) removeAgain(i Instance, at entry, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := failed{entry: at, turn: i.turn()}
	if u := r.unsure[i.key()]; time.Now().Before(u.until) {
		f.until, f.since = u.until, slices.Concat(at.since, u.since)
	}
	delete(r.unsure, i.key())
	if err == nil && f.until.IsZero() {
		return
	}
	r.failed[i.key()] = f
	poke(r.wake)
}

// Run tries failed deregistrations again until ctx ends, and returns its cause.
func (r *Registrar) Run(ctx context.Context) error {
	const first = time.Second
	pause := first
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.wake:
			pause = first
		}
		for more := true; more; {
			if sleep(ctx, pause) != nil {
				return context.Cause(ctx)
			}
			var most time.Duration
			more, most = r.retry(ctx)
			pause = min(2*pause, most)
		}
	}
}

// retry tries all of them once; most is the longest pause before the next time.
func (r *Registrar) retry(ctx context.Context) (more bool, most time.Duration) {
	r.mu.Lock()
	pending := maps.Clone(r.failed)
	r.mu.Unlock()
	for k, f := range pending {
		if r.retryOne(ctx, k, f) {
			r.disc.Hint(k.service)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	most = 30 * time.Second
	for _, f := range r.failed {
		if !f.until.IsZero() {
			most = doubtEvery
		}
	}
	return len(r.failed) > 0, most
}

// retryOne deregisters an instance unless it has been registered again, and
// reports whether it has done so.
func (r *Registrar) retryOne(ctx context.Context, k key, f failed) bool {
	done, err := r.turns.take(ctx, f.turn)
	if err != nil {
		return false
	}
	defer done()
	r.mu.Lock()
	_, still := r.failed[k]
	r.mu.Unlock()
	if !still {
		return false
	}
	there, err := r.stands(ctx, k, f.entry)
	if err != nil {
		return false
	}
	if there {
		if err := r.remove(ctx, k.id, f.entry); err != nil {
			return false
		}
		if !f.until.IsZero() {
			r.log.WarnContext(ctx, "a registration that was given up was carried out after all, and has been taken out", "service", k.service.String(), "instance", k.id)
		}
	}
	if time.Now().Before(f.until) {
		return there
	}
	r.mu.Lock()
	delete(r.failed, k)
	r.mu.Unlock()
	return there
}

// stands reports whether the registry has an instance by a registration that is
// meant, and not by another one, which may be another replica's.
func (r *Registrar) stands(ctx context.Context, k key, at entry) (bool, error) {
	out, err := r.api.GetInstance(ctx, &sd.GetInstanceInput{ServiceId: &at.serviceID, InstanceId: &k.id})
	if _, none := errors.AsType[*types.InstanceNotFound](err); none || isGone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read instance %s of %s: %w", k.id, k.service, err)
	}
	there, err := record.ParseInstance(k.id, mesh.Unknown, out.Instance.Attributes)
	// What can't be read stands under this id all the same.
	return err != nil || at.since == nil || slices.ContainsFunc(at.since, there.Since.Equal), nil
}

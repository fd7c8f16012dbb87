package registrar

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/mesh"
	"patchbay/mesh/record"
)

// Reap deregisters an instance of ours whose task has ended without a word, if
// it still belongs to that task, and reports whether it has. What is not there,
// another task's, or not ours, is left and no error.
func (r *Registrar) Reap(ctx context.Context, service mesh.ServiceName, instanceID, task string) (bool, error) {
	k, err := r.lookup(ctx, service, false)
	if errors.Is(err, ErrNamespace) || errors.Is(err, ErrForeign) || err == nil && k == nil {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	done, err := r.turns.take(ctx, turn(service, instanceID))
	if err != nil {
		return false, err
	}
	defer done()
	out, err := r.api.GetInstance(ctx, &sd.GetInstanceInput{ServiceId: &k.id, InstanceId: &instanceID})
	if _, none := errors.AsType[*types.InstanceNotFound](err); none || isGone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read instance %s of %s: %w", instanceID, service, err)
	}
	if a := out.Instance.Attributes; a[record.AttrOwner] == "" || a[record.AttrTask] != task {
		return false, nil
	}
	r.disc.Leaving(service, instanceID)
	if err := r.remove(ctx, instanceID, entry{serviceID: k.id, account: k.account}); err != nil {
		return false, err
	}
	r.mu.Lock()
	delete(r.live, key{service, instanceID})
	r.mu.Unlock()
	r.disc.Hint(service)
	return true, nil
}

// lookEvery is how often an instance without a lease is looked for. It bounds
// for how long a task that was taken for dead is missing.
const lookEvery = 10 * time.Minute

func (l *registered) nextLook() time.Time {
	if time.Now().Before(l.doubted) {
		return time.Now().Add(doubtEvery)
	}
	return time.Now().Add(lookEvery - rand.N(lookEvery/5)) //nolint:gosec // jitter
}

// stillThere looks, when it is time, whether the registry has an instance. The
// error matches ErrNotRegistered if it has not.
func (r *Registrar) stillThere(ctx context.Context, i Instance) error {
	r.mu.Lock()
	l := r.live[i.key()]
	due := l != nil && !time.Now().Before(l.look)
	if due {
		l.look = l.nextLook()
	}
	r.mu.Unlock()
	if !due {
		return nil
	}
	id := i.ID()
	_, err := r.api.GetInstance(ctx, &sd.GetInstanceInput{ServiceId: &l.serviceID, InstanceId: &id})
	if _, none := errors.AsType[*types.InstanceNotFound](err); none || isGone(err) {
		return fmt.Errorf("instance %s of %s: %w", id, i.Service(), ErrNotRegistered)
	}
	if err != nil {
		return fmt.Errorf("read instance %s of %s: %w", id, i.Service(), err)
	}
	return nil
}

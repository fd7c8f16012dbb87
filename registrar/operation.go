package registrar

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
)

// errOperation is that the registry has not done what was asked for.
var errOperation = errors.New("operation")

// finish waits for an asynchronous operation. Our registry needs about a
// millisecond, AWS seconds: the pauses triple from two milliseconds to a
// second. It returns what the operation made, by kind. account is that which
// shares the namespace with ours, if one does.
func (r *Registrar) finish(ctx context.Context, id string, account *string) (map[string]string, error) {
	ctx, stop := context.WithTimeoutCause(ctx, r.cfg.Operation, fmt.Errorf("operation %s has not finished in %s", id, r.cfg.Operation))
	defer stop()
	for pause := 2 * time.Millisecond; ; pause = min(3*pause, time.Second) {
		out, err := r.api.GetOperation(ctx, &sd.GetOperationInput{OperationId: &id, OwnerAccount: account})
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("get operation %s: %w", id, err)
		}
		switch o := out.Operation; o.Status {
		case types.OperationStatusSuccess:
			return o.Targets, nil
		case types.OperationStatusFail:
			return nil, fmt.Errorf("%w %s: %s: %s", errOperation, id, aws.ToString(o.ErrorCode), aws.ToString(o.ErrorMessage))
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// settleFirst waits until the operation that is in the way is over, whatever
// comes of it.
func (r *Registrar) settleFirst(ctx context.Context, busy *types.DuplicateRequest, account *string) error {
	id := aws.ToString(busy.DuplicateOperationId)
	if id == "" {
		return sleep(ctx, time.Second)
	}
	_, err := r.finish(ctx, id, account)
	if err != nil && (ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)) {
		return err
	}
	return sleep(ctx, time.Millisecond)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// turns lets one caller at a time through for each key. A waiting caller gives
// up when its context ends.
type turns struct {
	mu  sync.Mutex
	all map[string]chan struct{}
}

func (t *turns) take(ctx context.Context, key string) (done func(), err error) {
	t.mu.Lock()
	if t.all == nil {
		t.all = map[string]chan struct{}{}
	}
	c := t.all[key]
	if c == nil {
		c = make(chan struct{}, 1)
		t.all[key] = c
	}
	t.mu.Unlock()
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

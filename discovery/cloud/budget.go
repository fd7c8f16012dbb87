package cloud

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	"golang.org/x/time/rate"
)

// Budget is how many calls a second may be made, all namespaces together. Zero means the default, a negative value no limit (our own
// registry has none). Defaults leave half of AWS's quotas to others; see
// docs/reference/cloudmap-attributes.md for their sources.
type Budget struct {
	Revision   float64 // DiscoverInstancesRevision: quota 3,000, default 1,500
	Discover   float64 // DiscoverInstances: quota 1,000, default 500
	List       float64 // ListServices: unpublished, default 2, as AWS's own controller for Kubernetes
	Namespaces float64 // ListNamespaces: unpublished, default 0.5, by the same measure
	Attributes float64 // GetServiceAttributes: unpublished, default 20
}

// Unlimited is the budget for a registry that has no quotas.
var Unlimited = Budget{Revision: -1, Discover: -1, List: -1, Namespaces: -1, Attributes: -1}

// bucket is one token bucket. It halves its rate when the registry throttles
// and recovers by a twentieth of the full rate every ten seconds.
type bucket struct {
	full rate.Limit
	lim  *rate.Limiter

	mu    sync.Mutex
	since time.Time // of the last change of rate
}

// Recovery after throttling, as in cloudmap.md §2.1.
const (
	recoverEvery = 10 * time.Second
	recoverShare = 20
	lowestShare  = 64
)

func newBucket(perSecond, fallback float64, burstSeconds int) *bucket {
	if perSecond == 0 {
		perSecond = fallback
	}
	if perSecond < 0 {
		return &bucket{full: rate.Inf, lim: rate.NewLimiter(rate.Inf, 1)}
	}
	return &bucket{
		full: rate.Limit(perSecond),
		lim:  rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond*float64(burstSeconds)))),
	}
}

// wait blocks until a call may be made.
func (b *bucket) wait(ctx context.Context) error {
	b.recover()
	return b.lim.Wait(ctx)
}

func (b *bucket) recover() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.lim.Limit()
	if now >= b.full {
		return
	}
	steps := time.Since(b.since) / recoverEvery
	if steps > 0 {
		b.lim.SetLimit(min(b.full, now+rate.Limit(steps)*b.full/recoverShare))
		b.since = b.since.Add(steps * recoverEvery) //nolint:durationcheck // steps is a number
	}
}

// share is the part of the full rate that is in force.
func (b *bucket) share() float64 {
	b.recover()
	if b.full == rate.Inf {
		return 1
	}
	return float64(b.lim.Limit() / b.full)
}

// told learns from the outcome of a call.
func (b *bucket) told(err error) {
	if !Throttled(err) || b.full == rate.Inf {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.since) < time.Second {
		return // many calls in flight are throttled together: that is one lesson
	}
	b.lim.SetLimit(max(b.full/lowestShare, b.lim.Limit()/2))
	b.since = time.Now()
}

// Throttled reports whether the registry answered that there are too many calls.
func Throttled(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && ThrottleCode(api.ErrorCode())
}

// ThrottleCode reports whether a result, as Options.Called is told it, says so.
func ThrottleCode(result string) bool {
	_, yes := retry.DefaultThrottleErrorCodes[result]
	return yes || slices.Contains([]string{"RequestLimitExceeded", "ThrottlingException"}, result)
}

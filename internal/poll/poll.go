// Package poll waits for what can only be asked about again and again: a program
// that starts, a file that somebody else writes.
//
// It owns how often is asked. It must not know about what. It is all in [Until].
package poll

import (
	"context"
	"fmt"
	"time"
)

// every is short enough to be no part of what is measured in whole seconds, and
// costs nothing beside a process that starts.
const every = 20 * time.Millisecond

// Until tries f until it succeeds, ctx ends or limit has passed; then the error
// is f's last one.
func Until(ctx context.Context, limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", limit, err)
		case <-tick.C:
		}
	}
}

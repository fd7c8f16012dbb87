package shift

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"patchbay/mesh"
	"patchbay/mesh/record"
)

// settle is how long an order stands before it is said to hold. Whoever read
// what was before it has written by then, or never will (record.WriteTime, and
// some for a request that is on its way).
const settle = record.WriteTime + 150*time.Millisecond

// seenTime is how long an order waits for its own control plane to show it.
const seenTime = 5 * time.Second

// Lost is an error of an order that another one stands in the place of: it says
// what holds, and what to do.
type Lost struct{ Text string }

func (l *Lost) Error() string { return l.Text }

func lost(s mesh.ServiceName, now *mesh.Shift) error {
	return &Lost{fmt.Sprintf("another order for %s came in between, and holds: %s. Yours does not: look at `patchbay shift %s --status`, and give it again if it is still wanted", s, standing(now), s)}
}

// standing says what holds, in words.
func standing(now *mesh.Shift) string {
	if now == nil {
		return "all endpoints are called alike"
	}
	switch {
	case now.Ended != "":
		return fmt.Sprintf("%s has all calls again (%s)", now.From, now.Ended)
	case now.From == "":
		return fmt.Sprintf("%s has all calls, since %s", now.To, now.At.UTC().Format(time.RFC3339))
	}
	steps := make([]string, 0, len(now.Weights))
	for _, w := range now.Weights {
		steps = append(steps, Percent(w))
	}
	return fmt.Sprintf("from %s to %s, %s, given at %s", now.From, now.To, strings.Join(steps, ", "), now.At.UTC().Format(time.RFC3339))
}

// give writes an order in the place of the one that s shows, and returns when
// it is certain that it holds. An order that finds another one in its place, or
// loses it to one that did not know of it, is *Lost.
func (o Orders) give(ctx context.Context, s *mesh.Service, write func(attrs map[string]string) (record.Change, error), holds func(now *mesh.Shift) bool) error {
	before, wrote := id(s.Deployment), false
	err := o.Registry.Amend(ctx, s.Name, func(attrs map[string]string) (record.Change, error) {
		now := record.ParseShift(attrs)
		switch {
		case holds(now):
			return record.Change{}, nil
		case now == nil && before != "" || now != nil && now.ID != before:
			return record.Change{}, lost(s.Name, now)
		}
		wrote = true
		return write(attrs)
	})
	if err != nil || !wrote {
		return err
	}
	written := time.Now()
	o.seen(ctx, s)
	select {
	case <-time.After(time.Until(written.Add(settle))):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err = o.Registry.Amend(ctx, s.Name, func(attrs map[string]string) (record.Change, error) {
		if now := record.ParseShift(attrs); !holds(now) {
			return record.Change{}, lost(s.Name, now)
		}
		return record.Change{}, nil
	})
	if _, is := errors.AsType[*Lost](err); err != nil && !is {
		err = fmt.Errorf("the order for %s is written, but whether it holds can't be read (see `patchbay shift %s --status`): %w", s.Name, s.Name, err)
	}
	return err
}

func id(d *mesh.Deployment) string {
	if d == nil {
		return ""
	}
	return d.Shift.ID
}

// seen waits a moment until the control plane itself has read that something
// was written, so that whoever asks next finds it.
func (o Orders) seen(ctx context.Context, before *mesh.Service) {
	ctx, stop := context.WithTimeout(ctx, seenTime)
	defer stop()
	for {
		snap := o.Store.Snapshot()
		if s := snap.Service(before.Name); s == nil || id(s.Deployment) != id(before.Deployment) || s.Deployment != nil && s.Deployment.Shift.Ended != before.Deployment.Shift.Ended {
			return
		}
		select {
		case <-o.Store.Changed(snap.Generation):
		case <-ctx.Done():
			return
		}
	}
}

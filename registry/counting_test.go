package registry

import (
	"errors"
	"sync/atomic"

	"patchbay/registry/store"
)

// counting is a memory store that counts writes, and refuses them on demand.
type counting struct {
	store.Memory
	writes atomic.Int64
	broken atomic.Bool
}

func (c *counting) open() store.Store { return c }

var errBroken = errors.New("the disk is full")

func (c *counting) Apply(changes []store.Change) error {
	if c.broken.Load() {
		return errBroken
	}
	c.writes.Add(1)
	return c.Memory.Apply(changes)
}

package admit

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// storm is how many streams must have opened for what they leave to matter:
	// a cold stream costs some 300 kB that are free a moment later. The runtime
	// keeps such memory for the next time, as much as is in use.
	storm = 100
	// quiet is for how long no stream must open until the storm is over, its
	// answers sent and acknowledged.
	quiet = 10 * time.Second
)

// calm gives memory back to the system when a storm is over.
type calm struct {
	free func()

	mu     sync.Mutex
	opened int
	timer  *time.Timer
}

func newCalm() *calm {
	return &calm{free: func() {
		runtime.GC() // the first collection only marks what buffer pools keep as unused
		debug.FreeOSMemory()
	}}
}

// another counts a stream that opens.
func (c *calm) another() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opened++; c.timer == nil {
		c.timer = time.AfterFunc(quiet, c.over)
	} else {
		c.timer.Reset(quiet)
	}
}

func (c *calm) over() {
	c.mu.Lock()
	n := c.opened
	c.opened = 0
	c.mu.Unlock()
	if n >= storm {
		c.free()
	}
}

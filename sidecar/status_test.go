package sidecar

import (
	"sync"
	"testing"
	"time"
)

// TestProblemsAreNotedInOrder: whoever asks while something changes does not
// note what was, so that a problem is as old as it is.
func TestProblemsAreNotedInOrder(t *testing.T) {
	a, _ := newQuietAgent(t, nil)
	envoy := func(word string) { a.set(func(s *state) { s.phase, s.ready, s.envoy = "", true, word }) }
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					a.known()
				}
			}
		})
	}
	defer asking.Wait()
	defer close(stop)
	for i := range 5000 {
		envoy("LIVE")
		before := time.Now()
		envoy("")
		if _, _, all := a.known(); len(all) != 1 || all[0].Since.Before(before) {
			t.Fatalf("turn %d: %v of a moment ago; %v later", i, all, before)
		}
	}
}

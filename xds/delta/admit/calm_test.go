package admit

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryIsGivenBackOnceAfterAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Limits{Rate: 1000, Burst: 1000})
		var freed atomic.Int32
		g.calm.free = func() { freed.Add(1) }
		open := func(n int, each time.Duration) {
			for range n {
				if _, err := g.Admit(t.Context(), "", netip.Addr{}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(each)
			}
			synctest.Wait()
		}
		open(storm, quiet/2)
		if freed.Load() != 0 {
			t.Fatal("memory was given back within the storm")
		}
		open(0, 0)
		time.Sleep(quiet)
		if synctest.Wait(); freed.Load() != 1 {
			t.Fatalf("given back %d times after a storm", freed.Load())
		}
		open(3*storm, 2*quiet) // one by one
		if freed.Load() != 1 {
			t.Errorf("given back %d times without another storm", freed.Load()-1)
		}
	})
}

package used

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// others are the replicas that answer.
type others []*Proofs

func (o others) Used(_ context.Context, id string) bool {
	for _, p := range o {
		if p.Here(id) {
			return true
		}
	}
	return false
}

func open(t *testing.T, path string) *Proofs {
	t.Helper()
	p, err := Open(path, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func claim(t *testing.T, p *Proofs, id string, want bool) {
	t.Helper()
	now := time.Now()
	if ok, err := p.Claim(t.Context(), id, now.Add(time.Minute), now); ok != want || err != nil {
		t.Errorf("claim of %s: %v, %v; want %v", id, ok, err, want)
	}
}

// A proof is good once, at whichever replica: also at one that began later, and
// after the one that took it has restarted. Who hears nobody refuses its own.
func TestOnceAmongReplicas(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "control", "used")
	a, b, late := open(t, disk), open(t, filepath.Join(t.TempDir(), "control", "used")), open(t, filepath.Join(t.TempDir(), "control", "used"))
	a.Share(others{b})
	b.Share(others{a})
	claim(t, a, "1", true)
	claim(t, a, "1", false)
	claim(t, b, "1", false)
	claim(t, b, "2", true)
	claim(t, a, "2", false)
	late.Share(others{a, b})
	claim(t, late, "1", false)
	again := open(t, disk)
	late.Share(others{again})
	claim(t, late, "1", false)
	alone := open(t, filepath.Join(t.TempDir(), "control", "used"))
	alone.Share(others{})
	claim(t, alone, "1", true)
	claim(t, alone, "1", false)
}

// Replicas that share a disk know of each other by that, and do not take each
// other's word for a use of their own.
func TestReplicasOnOneDisk(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "control", "used")
	a, b := open(t, disk), open(t, disk)
	a.Share(others{b})
	b.Share(others{a})
	claim(t, a, "1", true)
	claim(t, b, "1", false)
	claim(t, b, "2", true)
	claim(t, a, "2", false)
	claim(t, a, "3", true)
}

// Of replicas that are shown the same proof at once, one takes it at most.
func TestAtOnce(t *testing.T) {
	all := make([]*Proofs, 3)
	for i := range all {
		all[i] = open(t, filepath.Join(t.TempDir(), "control", "used"))
	}
	for i, p := range all {
		var rest others
		for j, o := range all {
			if i != j {
				rest = append(rest, o)
			}
		}
		p.Share(rest)
	}
	for round := range 50 {
		var taken atomic.Int32
		var wg sync.WaitGroup
		for _, p := range all {
			wg.Go(func() {
				now := time.Now()
				ok, err := p.Claim(t.Context(), string(rune('a'+round)), now.Add(time.Minute), now)
				if err != nil {
					t.Error(err)
				}
				if ok {
					taken.Add(1)
				}
			})
		}
		wg.Wait()
		if n := taken.Load(); n > 1 {
			t.Errorf("round %d: %d replicas took it", round, n)
		}
	}
}

// What has expired is not kept in memory.
func TestExpired(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "control", "used"))
	begin := time.Now()
	for i := range leaveOutAt {
		p.note(string(rune(0x4e00+i)), begin.Add(time.Minute), begin)
	}
	p.note("new", begin.Add(time.Hour), begin.Add(2*time.Minute))
	if n := len(p.here); n != 1 {
		t.Errorf("%d are kept", n)
	}
}

// Package used holds that a proof is good once, whichever replica of the control
// plane it is shown to.
//
// It owns what counts as used. It must not know what a proof says, nor how
// replicas reach each other. Start reading at [Proofs.Claim].
package used

import (
	"context"
	"maps"
	"sync"
	"time"

	"patchbay/identity/durable"
)

// Others are the other replicas.
type Others interface {
	// Used reports whether one of them has taken a proof. Those that do not
	// answer do not count.
	Used(ctx context.Context, id string) bool
}

// Proofs are those that this replica has taken, also before a restart, until they
// expire. It is safe for concurrent use.
type Proofs struct {
	disk   *durable.Once
	others Others // nil: there are none

	mu   sync.Mutex
	here map[string]time.Time // taken by this process, or before it began, until when
	full int                  // as many in here are worth leaving out those that have expired
}

// leaveOutAt is how many there are at least, when those that have expired are
// left out.
const leaveOutAt = 1000

// Open reads what was taken before; now is the time.
func Open(path string, now time.Time) (*Proofs, error) {
	disk, err := durable.OpenOnce(path, now)
	if err != nil {
		return nil, err
	}
	return &Proofs{disk: disk, here: disk.All(), full: leaveOutAt}, nil
}

// Lost is how many lines of the record could not be read. A proof that stood
// there is taken once more while it lives.
func (p *Proofs) Lost() int { return p.disk.Lost() }

// Share asks the other replicas besides. Call it before p is used.
func (p *Proofs) Share(o Others) { p.others = o }

// Claim takes a proof, on disk before it answers true, and remembers it until a
// time. It answers false for one that was taken before, here or by a replica that
// answers. Of two replicas that are shown the same at once, at most one answers
// true: each notes it here before it asks the other.
func (p *Proofs) Claim(ctx context.Context, id string, until, now time.Time) (bool, error) {
	first, err := p.disk.Claim(id, until, now)
	if err != nil || !first {
		return false, err
	}
	p.note(id, until, now)
	return p.others == nil || !p.others.Used(ctx, id), nil
}

func (p *Proofs) note(id string, until, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.here) >= p.full {
		maps.DeleteFunc(p.here, func(_ string, until time.Time) bool { return until.Before(now) })
		p.full = max(leaveOutAt, 2*len(p.here))
	}
	p.here[id] = until
}

// Here reports whether this replica has taken a proof: what it answers others.
// What another replica took that shares the disk is not its own.
func (p *Proofs) Here(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, here := p.here[id]
	return here
}

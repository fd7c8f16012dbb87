package refused

import (
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Certificate requests of one address, or of one node: a task that restarts in
// a loop stays far below, a guesser gets nowhere.
const (
	PerSecond   = 5
	burst       = 50
	callersKept = 4096
)

// Pace counts who comes too often. It is safe for concurrent use.
type Pace struct {
	limits *lru.Cache[string, *rate.Limiter]
}

// NewPace has counted nobody.
func NewPace() *Pace {
	limits, err := lru.New[string, *rate.Limiter](callersKept)
	if err != nil {
		panic(err) // only of a size below 1
	}
	return &Pace{limits}
}

// Allow reports whether who may come once more now.
func (p *Pace) Allow(who string) bool {
	l, there := p.limits.Get(who)
	if !there {
		mine := rate.NewLimiter(PerSecond, burst)
		if l, there, _ = p.limits.PeekOrAdd(who, mine); !there {
			l = mine
		}
	}
	return l.Allow()
}

// Package diary logs how streams end, without repeating itself: an Envoy that
// is refused comes back every second or two, for ever.
//
// It must not know why streams end. Start reading at [Diary.Ended].
package diary

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

const (
	// quiet is for how long the same end of a node's streams is only counted.
	quiet = time.Minute
	// kept bounds how many different ends are remembered.
	kept = 4096
)

// Diary is safe for concurrent use.
type Diary struct {
	log *slog.Logger

	mu   sync.Mutex
	said *lru.Cache[End, *said]
}

// End is what makes two ends the same.
type End struct {
	Node   string // or, of one that has none yet, its address
	Reason string // one word
	Error  string // "" if it may differ each time
}

// EndOf is how a stream of a node ended; node may not be known yet.
func EndOf(ctx context.Context, node, reason string, err error) End {
	e := End{Node: node, Reason: reason}
	if p, ok := peer.FromContext(ctx); ok && node == "" {
		host, _, _ := net.SplitHostPort(p.Addr.String()) // a Unix socket has none
		e.Node = host
	}
	if err != nil && status.Code(err) != codes.ResourceExhausted { // which names numbers
		e.Error = err.Error()
	}
	return e
}

// said is when an end was logged, and how often it came since.
type said struct {
	at   time.Time
	more int
}

// New returns a diary that writes to log.
func New(log *slog.Logger) *Diary {
	c, err := lru.New[End, *said](kept)
	if err != nil {
		panic(err) // a size below 1
	}
	return &Diary{log: log, said: c}
}

// Ended logs the end of a stream that was open for a while. One that has failed
// in the same way is logged once a minute, and says how many there were between.
func (d *Diary) Ended(e End, after time.Duration, err error) {
	log := d.log.With("node", e.Node, "after", after.String(), "reason", e.Reason, "error", err)
	if err != nil {
		d.mu.Lock()
		last, found := d.said.Get(e)
		if found && time.Since(last.at) < quiet {
			last.more++
			d.mu.Unlock()
			return
		}
		if found && last.more > 0 {
			log = log.With("repeated", last.more)
		}
		d.said.Add(e, &said{at: time.Now()})
		d.mu.Unlock()
	}
	log.Info("stream ended")
}

// Package refused tells the log, and the audit log, who was refused on the
// control channel and why: once, and again after a minute if it goes on.
//
// It owns the pace. It must not know who refuses. Start reading at [Log].
package refused

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
	"google.golang.org/grpc/status"

	"patchbay/audit"
)

// A refusal is logged when it is new, and again after quiet if it goes on: an
// Envoy that is refused comes back every few seconds.
const (
	quiet        = time.Minute
	refusalsKept = 1024
)

// Log is safe for concurrent use.
type Log struct {
	log *slog.Logger
	// Audit is told too; nil: it is not. Set it before the first use.
	Audit func(audit.Event)

	mu   sync.Mutex
	told *lru.LRU[string, time.Time]
}

// New logs to to.
func New(to *slog.Logger) *Log {
	told, err := lru.NewLRU[string, time.Time](refusalsKept, nil)
	if err != nil {
		panic(err) // only of a size below 1
	}
	return &Log{log: to, told: told}
}

// Refuse tells that from was refused with err; about says what it wanted.
func (r *Log) Refuse(ctx context.Context, from string, err error, about ...slog.Attr) {
	reason := status.Convert(err).Message()
	key := fmt.Sprint(from, reason, about)
	r.mu.Lock()
	at, told := r.told.Get(key)
	if told = told && time.Since(at) < quiet; !told {
		r.told.Add(key, time.Now())
	}
	r.mu.Unlock()
	if !told {
		var subject []string
		for _, a := range about {
			subject = append(subject, a.Value.String())
		}
		if r.Audit != nil {
			r.Audit(audit.Event{Kind: audit.NodeRefused, Peer: from, Subject: strings.Join(subject, " "), Decision: audit.Denied, Reason: reason})
		}
		about = append(about, slog.String("address", from), slog.String("reason", reason))
		r.log.LogAttrs(ctx, slog.LevelWarn, "refused on the control channel", about...)
	}
}

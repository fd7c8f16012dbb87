package identity

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

// refusals logs who was refused, and why, and tells the audit log. It is safe for concurrent use.
type refusals struct {
	to    *slog.Logger
	audit func(audit.Event)

	mu   sync.Mutex
	told *lru.LRU[string, time.Time]
}

func newRefusals(to *slog.Logger) *refusals {
	told, err := lru.NewLRU[string, time.Time](refusalsKept, nil)
	if err != nil {
		panic(err) // only of a size below 1
	}
	return &refusals{to: to, audit: func(audit.Event) {}, told: told}
}

func (r *refusals) log(ctx context.Context, from string, err error, about ...slog.Attr) {
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
		r.audit(audit.Event{Kind: audit.NodeRefused, Peer: from, Subject: strings.Join(subject, " "), Decision: audit.Denied, Reason: reason})
		about = append(about, slog.String("from", from), slog.String("reason", reason))
		r.to.LogAttrs(ctx, slog.LevelWarn, "refused on the control channel", about...)
	}
}

package envoy

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

const (
	// quiet is how long nothing must be under way before Envoy is stopped:
	// a caller that has just acknowledged may have a request on the wire.
	quiet      = 300 * time.Millisecond
	drainCheck = 50 * time.Millisecond
)

// Finish has Envoy ask its clients to leave, and lets requests and connections
// end: requests of http, http2 and grpc, and connections to the clusters named,
// the applications of tcp. It takes at most the drain time. What can't be done,
// and what is cut, is logged.
func (a *Admin) Finish(ctx context.Context, tcpClusters []string, drainTime time.Duration, log *slog.Logger) {
	err := a.drainInbound(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		log.WarnContext(ctx, "Envoy's clients are not asked to leave", "error", err)
		return
	}
	tick := time.NewTicker(drainCheck)
	defer tick.Stop()
	end := time.After(drainTime)
	idleSince := time.Now()
	for {
		n, err := a.active(ctx, tcpClusters)
		if err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "what is under way is not known", "error", err)
			return
		}
		if n > 0 {
			idleSince = time.Now()
		}
		if time.Since(idleSince) >= quiet {
			return
		}
		select {
		case <-ctx.Done():
			log.WarnContext(ctx, "what is under way is cut", "active", n, "error", context.Cause(ctx))
			return
		case <-end:
			if n > 0 {
				log.WarnContext(ctx, "the drain time is over; what is under way is cut", "active", n, "drain_time", drainTime.String())
			}
			return
		case <-tick.C:
		}
	}
}

// active is how much is under way on the ingress listeners: requests of http,
// http2 and grpc, and connections to the clusters named, the applications of
// tcp. Idle connections of the former don't count: their clients are told to
// go elsewhere, and those of the mesh have left already.
func (a *Admin) active(ctx context.Context, tcpClusters []string) (uint64, error) {
	names := []string{`http\.ingress\.downstream_rq_active`}
	for _, c := range tcpClusters {
		names = append(names, `cluster\.`+regexp.QuoteMeta(c)+`\.upstream_cx_active`)
	}
	s, err := a.Stats(ctx, "^("+strings.Join(names, "|")+")$")
	var sum uint64
	for _, n := range s {
		sum += n
	}
	return sum, err
}

// drainInbound makes the ingress listeners ask their clients to go elsewhere.
// They go on accepting for the drain time that Envoy was started with.
func (a *Admin) drainInbound(ctx context.Context) error {
	_, err := a.ask(ctx, http.MethodPost, "/drain_listeners", url.Values{"graceful": {""}, "inboundonly": {""}})
	return err
}

// Package path measures the data path: what a request costs and how long it
// takes through two Envoys that patchbay configured, beside a pair that was
// tuned by hand and no Envoys at all.
//
// It uses the product from outside: a mesh.Store, a Pusher, a Server, and the
// bootstrap file of a sidecar. Everything is on loopback; Envoys bind the
// addresses of aliases themselves. Start reading at [Run], then routes.
package path

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"patchbay/bench"
	"patchbay/bench/load"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// Job is the data path without disturbance.
var Job = bench.Job{
	Name: "path", Title: "Data path", Limit: 7 * time.Minute,
	About: strings.Join([]string{
		"An ordinary client calls an application (1 kB answers): directly, through two Envoys that were tuned by hand (static configuration, the features of",
		"patchbay's: retries, outlier detection, timeouts, request ids), and through two that patchbay configured. HTTP/2 between the two, TLS 1.3 where it says so,",
		"two workers each, started anew for each round; the variants take turns. *Saturation*: 64 requests in flight by wrk, h2load or fortio.",
		"*Fixed rate*: an open loop (vegeta) with Poisson arrivals; latency counts from the scheduled arrival. *CPU* is that of both Envoys by request.",
		"Access logs are the documented fields as JSON, on a standard output that is the null device.",
	}, "\n"),
	Run: Run, Goals: pathGoals,
}

// variant is a way from the client to the application.
type variant struct {
	name string
	tls  bool
	log  bool
	ours bool
	none bool // no Envoys
}

// The variants.
var (
	direct      = variant{name: "direct", none: true}
	staticPlain = variant{name: "by hand"}
	staticTLS   = variant{name: "by hand, TLS", tls: true}
	staticLog   = variant{name: "by hand, access log", log: true}
	staticBoth  = variant{name: "by hand, TLS, access log", tls: true, log: true}
	oursPlain   = variant{name: "patchbay", ours: true}
	oursTLS     = variant{name: "patchbay, TLS", ours: true, tls: true}
	oursLog     = variant{name: "patchbay, access log", ours: true, log: true}
	oursBoth    = variant{name: "patchbay, TLS, access log", ours: true, tls: true, log: true}
)

// route is a variant that runs.
type route struct {
	addresses map[string]string // by protocol: what the client calls
	envoys    []*envoy          // the caller's is the last
	stop      func()

	aliases map[string]mesh.Alias // of ours: by protocol
	offers  []bootstrap.Port      // of ours: all endpoints
}

// cpu is what all Envoys of the route have used.
func (r *route) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, e := range r.envoys {
		d, err := bench.CPU(e.cmd.Process.Pid)
		if err != nil {
			return 0, fmt.Errorf("an Envoy ended: %w: %s", err, e.tail())
		}
		sum += d
	}
	return sum, nil
}

const (
	mSat    = "requests per second at saturation"
	mSatCPU = "CPU per request at saturation"
	mCPU    = "CPU per request at a fixed rate"
	mP50    = "p50 at a fixed rate"
	mP99    = "p99 at a fixed rate"
	mP999   = "p99.9 at a fixed rate"
	mFailed = "failed requests at a fixed rate"
)

// Run measures every protocol through every variant.
func Run(ctx context.Context, o bench.Options, part *bench.Part) error {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	part.Versions["envoy"] = w.envoyVersion
	rate, err := w.calibrate(ctx)
	if err != nil {
		return err
	}
	part.Notes = append(part.Notes, fmt.Sprintf("The fixed rate is %d requests per second, for all: about a quarter of what two Envoys with TLS can do here.", rate))
	variants := []variant{direct, staticPlain, oursPlain, staticTLS, oursTLS, staticLog, oursLog, staticBoth, oursBoth}
	if o.Quick {
		variants = []variant{direct, staticTLS, oursTLS}
	}
	for round := range o.Rounds(5, 1) {
		for _, v := range rotated(variants, round) {
			if err := w.measure(ctx, part, v, rate); err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
		}
	}
	return nil
}

// pathGoals compares with the pair that was tuned by hand.
func pathGoals(part *bench.Part) {
	for _, p := range load.Protocols {
		for _, pair := range [][2]variant{{oursPlain, staticPlain}, {oursTLS, staticTLS}, {oursBoth, staticBoth}} {
			v, ok := part.Ratio(p, pair[0].name, pair[1].name, mSat)
			part.AtLeast(0.85, "×", p+": requests per second, "+pair[0].name+" against "+pair[1].name, v, ok)
			v, ok = part.Ratio(p, pair[0].name, pair[1].name, mCPU)
			part.AtMost(1.15, "×", p+": CPU per request at the fixed rate, "+pair[0].name+" against "+pair[1].name, v, ok)
		}
	}
}

func rotated[T any](all []T, round int) []T {
	n := round % len(all)
	return slices.Concat(all[n:], all[:n])
}

// calibrate finds the fixed rate: a quarter of what our pair with TLS can do.
func (w *world) calibrate(ctx context.Context) (int, error) {
	r, err := w.open(ctx, oursTLS)
	if err != nil {
		return 0, err
	}
	defer r.stop()
	n, err := load.Saturate(ctx, w.Options, "http", r.addresses["http"], 2*time.Second)
	return min(5000, max(200, int(n/2/4)/100*100)), err
}

// measure is one round of one variant: all protocols through Envoys that were
// started for it.
func (w *world) measure(ctx context.Context, part *bench.Part, v variant, rate int) error {
	r, err := w.open(ctx, v)
	if err != nil {
		return err
	}
	defer r.stop()
	for _, p := range load.Protocols {
		add := func(metric, unit string, value float64) { part.Add(p, v.name, metric, unit, value) }
		// The first requests open connections and are not measured.
		if _, err := w.load(ctx, call{p, p, rate, false}, r.addresses[p], 200*time.Millisecond); err != nil {
			return err
		}
		d := time.Second
		before, err := r.cpu()
		if err != nil {
			return err
		}
		n, err := load.Saturate(ctx, w.Options, p, r.addresses[p], d)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		after, err := r.cpu()
		if err != nil {
			return err
		}
		add(mSat, "/s", n/d.Seconds())
		if !v.none {
			add(mSatCPU, "µs", (after-before).Seconds()*1e6/n)
		}
		l, cost, err := w.steady(ctx, r, call{p, p, rate, false}, 1500*time.Millisecond)
		if err != nil {
			return err
		}
		if !v.none {
			add(mCPU, "µs", cost)
		}
		add(mP50, "ms", l.P50)
		add(mP99, "ms", l.P99)
		add(mP999, "ms", l.P999)
		add(mFailed, "", float64(l.Failed))
		if err := r.verify(p, v); err != nil {
			return err
		}
		w.Say("  %-26s %-6s %7.0f/s %5.0f µs; at %d/s %5.0f µs, p50 %.2f p99 %.2f ms, %d failed", v.name, p, n/d.Seconds(),
			(after-before).Seconds()*1e6/n, rate, cost, l.P50, l.P99, l.Failed)
	}
	return nil
}

// verify makes sure that what was measured is what it is called: the caller's
// Envoy itself says whether its connections were encrypted.
func (r *route) verify(protocol string, v variant) error {
	if v.none {
		return nil
	}
	stats, err := r.envoys[len(r.envoys)-1].stats(`^cluster\.` + protocol + `\.prod\.(ssl\.versions\.TLSv1\.3|upstream_cx_total)$`)
	if err != nil {
		return err
	}
	total, encrypted := stats["cluster."+protocol+".prod.upstream_cx_total"], stats["cluster."+protocol+".prod.ssl.versions.TLSv1.3"]
	if total == 0 || v.tls && encrypted != total || !v.tls && encrypted != 0 {
		return fmt.Errorf("%s: of %v connections between the Envoys %v were TLS 1.3", protocol, total, encrypted)
	}
	return nil
}

// steady calls at a fixed rate, and returns what a request cost all Envoys in
// µs.
func (w *world) steady(ctx context.Context, r *route, c call, d time.Duration) (load.Result, float64, error) {
	before, err := r.cpu()
	if err != nil {
		return load.Result{}, 0, err
	}
	l, err := w.load(ctx, c, r.addresses[c.protocol], d)
	if err != nil {
		return l, 0, err
	}
	after, err := r.cpu()
	return l, (after - before).Seconds() * 1e6 / float64(max(1, l.Sent)), err
}

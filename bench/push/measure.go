package push

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"patchbay/bench"
	"patchbay/bench/model"
)

// runner measures one job.
type runner struct {
	bench.Options
	part *bench.Part
}

// The metrics, as they are called in the results.
const (
	mCPU     = "CPU per change"
	mLast    = "change → last ACK"
	mP99     = "change → heard by 99 %"
	mBytes   = "bytes per sidecar and change"
	mMade    = "responses encoded per change, for all"
	mCold    = "cold connect of all"
	mColdCPU = "cold connect, CPU"
	mColdIn  = "cold connect, bytes per sidecar"
	mWarm    = "warm reconnect of all"
	mWarmCPU = "warm reconnect, CPU"
	mWarmIn  = "warm reconnect, bytes per sidecar"
	mWarmOut = "warm reconnect, bytes sent by a sidecar"
	mRSS     = "memory per sidecar, at once"
	mCalm    = "memory per sidecar, after the calm"
	mBase    = "memory before any connects"
	mSlow    = "heard by 99 % of the healthy, 10 % read nothing"
	mNack    = "heard by 99 % of the healthy, 10 % reject"
	mSlowX   = "10 % read nothing, × undisturbed"
	mNackX   = "10 % reject, × undisturbed"
)

var (
	wide  = model.Shape{Streams: 200, Services: 1, Endpoints: 1000}
	small = model.Shape{Streams: 200, Services: 20, Endpoints: 50}
	large = model.Shape{Streams: 1000, Services: 200, Endpoints: 50}
)

// Run measures everything.
func Run(ctx context.Context, o bench.Options, part *bench.Part) error {
	r := &runner{o, part}
	certs := filepath.Join(o.Dir, "certs")
	if err := os.Mkdir(certs, 0o700); err != nil {
		return err
	}
	if err := model.WriteCerts(certs, large.Streams); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	shapes := []model.Shape{wide, small, large}
	if o.Quick {
		shapes = []model.Shape{small}
	}
	for _, s := range shapes {
		if err := r.compare(ctx, s); err != nil {
			return err
		}
		if err := r.mutual(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// compare has all engines do everything at one shape, in turn.
func (r *runner) compare(ctx context.Context, s model.Shape) error {
	r.Say("push: %s", s)
	var pairs []*pair
	defer func() {
		for _, p := range pairs {
			p.stop()
		}
	}()
	engines := []string{patchbay, linear, shared, perNode}
	if s.Endpoints >= 500 {
		engines = slices.Insert(engines, 1, withLEDS) // smaller ones travel in one piece
	}
	for _, e := range engines {
		p, err := r.pair(ctx, e, e, s, false)
		if err != nil {
			return err
		}
		pairs = append(pairs, p)
		if err := r.cold(p, true); err != nil {
			return err
		}
	}
	for round := range r.Rounds(7, 2) {
		for _, p := range rotated(pairs, round) {
			if err := r.changes(p, round); err != nil {
				return err
			}
		}
	}
	for round := range r.Rounds(5, 1) {
		for _, p := range rotated(pairs, round) {
			if err := r.reconnects(p, round); err != nil {
				return err
			}
		}
	}
	// Last: to a sidecar that has rejected endpoints, and comes back before they
	// have changed, all are sent again.
	for round := range r.Rounds(5, 1) {
		for _, p := range rotated(pairs, round) {
			if err := r.disturbed(p, round); err != nil {
				return err
			}
		}
	}
	return nil
}

// rotated starts with another one each round.
func rotated[T any](all []T, round int) []T {
	n := round % len(all)
	return slices.Concat(all[n:], all[:n])
}

// dear reports that p can't do in minutes what the others do in seconds: at the
// largest model.Shape a snapshot for each node takes more than ten seconds a change.
func (p *pair) dear() bool {
	return p.engine == perNode && p.shape.Streams*p.shape.Services*p.shape.Endpoints > 1_000_000
}

func (r *runner) add(p *pair, metric, unit string, v float64) {
	r.part.Add(p.shape.String(), p.variant, metric, unit, v)
}

func (r *runner) cold(p *pair, first bool) error {
	c, err := p.connect(false, first)
	if err != nil {
		return err
	}
	r.add(p, mCold, "ms", ms(c.took))
	r.add(p, mColdCPU, "ms", c.cpu)
	r.add(p, mColdIn, "B", c.in)
	if first {
		r.add(p, mBase, "MB", c.baseline/1e6)
		r.add(p, mRSS, "kB", c.rss/1e3)
		r.add(p, mCalm, "kB", c.inUse/1e3)
		r.Say("  %-24s cold connect %6.0f ms, %6.0f ms CPU, %4.0f kB a sidecar at once, %4.0f after the calm", p.variant, ms(c.took), c.cpu, c.rss/1e3, c.inUse/1e3)
	}
	return nil
}

// changes is one round: the mean of a few changes is one measurement.
func (r *runner) changes(p *pair, round int) error {
	n := 5
	if p.dear() {
		if n = 1; round >= 5 {
			return nil
		}
	}
	var cpu, last, in, made float64
	var heard []float64
	for range n {
		c, err := p.push()
		if err != nil {
			return err
		}
		cpu, last, in, made = cpu+c.cpu, last+ms(c.lastACK), in+c.in, made+c.made
		heard = append(heard, c.heard...)
	}
	r.add(p, mCPU, "ms", cpu/float64(n))
	r.add(p, mLast, "ms", last/float64(n))
	r.add(p, mP99, "ms", bench.Percentile(heard, 0.99))
	r.add(p, mBytes, "B", in/float64(n))
	if made > 0 { // go-control-plane does not say
		r.add(p, mMade, "", made/float64(n))
	}
	r.Say("  %-24s change %8.2f ms CPU, last ACK %8.2f ms, %6.0f B", p.variant, cpu/float64(n), last/float64(n), in/float64(n))
	return nil
}

// disturbed compares what healthy sidecars see while a tenth of all reads
// nothing, or rejects everything, with the same just before.
func (r *runner) disturbed(p *pair, round int) error {
	if p.dear() {
		return nil
	}
	p99 := func(kind string) (float64, error) {
		if err := p.fleet.tell(model.Order{Do: "misbehave", Kind: kind, Percent: 10}, &model.Heard{}); err != nil {
			return 0, err
		}
		var heard []float64
		for range r.Rounds(5, 4) {
			c, err := p.push()
			if err != nil {
				return 0, err
			}
			heard = append(heard, c.heard...)
		}
		if err := p.fleet.tell(model.Order{Do: "misbehave", Percent: 0}, &model.Heard{}); err != nil {
			return 0, err
		}
		return bench.Percentile(heard, 0.99), p.server.tell(model.Order{Do: "settle"}, &served{})
	}
	kinds := []string{"", "slow", "nack"}
	if p.engine == withLEDS {
		// One that rejects a member is disconnected, and gets assignments then.
		kinds = kinds[:2]
	}
	got := map[string]float64{}
	for _, kind := range rotated(kinds, round) {
		v, err := p99(kind)
		if err != nil {
			return err
		}
		got[kind] = v
	}
	r.add(p, mSlow, "ms", got["slow"])
	r.add(p, mSlowX, "×", got["slow"]/got[""])
	if v := got["nack"]; v > 0 {
		r.add(p, mNack, "ms", v)
		r.add(p, mNackX, "×", v/got[""])
	}
	return nil
}

// reconnects is a storm of sidecars that hold everything, then one of sidecars
// that hold nothing.
func (r *runner) reconnects(p *pair, round int) error {
	if p.dear() && round > 0 {
		return nil
	}
	if err := p.disconnect(); err != nil {
		return err
	}
	c, err := p.connect(true, false)
	if err != nil {
		return err
	}
	r.add(p, mWarm, "ms", ms(c.took))
	r.add(p, mWarmCPU, "ms", c.cpu)
	r.add(p, mWarmIn, "B", c.in)
	r.add(p, mWarmOut, "B", c.out)
	r.Say("  %-24s warm reconnect %6.0f ms, %6.0f ms CPU, %.0f B", p.variant, ms(c.took), c.cpu, c.in)
	if err := p.disconnect(); err != nil {
		return err
	}
	return r.cold(p, false)
}

// mutual is the control channel as in production: mutual TLS.
func (r *runner) mutual(ctx context.Context, s model.Shape) error {
	for _, e := range []string{patchbay, linear} {
		p, err := r.pair(ctx, e+", mTLS", e, s, true)
		if err != nil {
			return err
		}
		err = r.cold(p, true)
		for round := 0; err == nil && round < r.Rounds(5, 1); round++ {
			err = r.changes(p, round)
		}
		p.stop()
		if err != nil {
			return err
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

package push

import (
	"context"
	"fmt"
	"strings"
	"time"

	"patchbay/bench"
	"patchbay/bench/model"
)

// Endurance is whether memory stays flat.
var Endurance = bench.Job{
	Name: "endurance", Title: "Memory over time", Limit: 3 * time.Hour, Apart: true,
	About: strings.Join([]string{
		"A control plane with 200 sidecars that stay and see 20 services × 50 endpoints: endpoints change all the time, and other sidecars come, are told everything",
		"and go. *Memory* is resident memory of the server, with the 200 connected and the others gone, when what was free has been given back to the system.",
		"*Live objects* are what Go's collector finds in use at that moment.",
		"The first fifth of the time is not looked at. `make xds-churn DURATION=1h` runs it; `make bench` does not.",
	}, "\n"),
	Run: runEndurance, Goals: enduranceGoals,
}

const (
	mChanges   = "changes"
	mShort     = "streams that came and went"
	mTime      = "time"
	mMemory    = "memory"
	mSlope     = "slope of memory"
	mLive      = "live objects"
	mLiveSlope = "slope of live objects"
	mGrowth    = "memory in the last fifth, × that in the second"

	wholeTime   = "the whole time"
	enduranceBy = patchbay
)

// runEndurance aims at 100,000 streams, and at as many changes as an hour has
// at one a second.
func runEndurance(ctx context.Context, o bench.Options, part *bench.Part) error {
	long := o.For
	if long == 0 {
		long = 10 * time.Minute
		if o.Quick {
			long = 5 * time.Second
		}
	}
	r := &runner{o, part}
	p, err := r.pair(ctx, enduranceBy, patchbay, small, false)
	if err != nil {
		return err
	}
	defer p.stop()
	if _, err := p.connect(false, false); err != nil {
		return err
	}
	visitors, err := r.clients(ctx, p, "the sidecars that come and go", small, "", small.Streams)
	if err != nil {
		return err
	}
	defer visitors.stop()
	samples := o.Rounds(50, 5)
	waves, changes := o.Rounds(100_000/small.Streams, samples), o.Rounds(max(3_600, int(long.Seconds())), 10*samples)
	began := time.Now()
	var minutes, kB, live []float64
	for n := range samples {
		due := func(all int) int { return all*(n+1)/samples - all*n/samples }
		if err := burst(p, visitors, due(waves), due(changes)); err != nil {
			return err
		}
		select { // nobody runs ahead of the time
		case <-time.After(time.Until(began.Add(long * time.Duration(n+1) / time.Duration(samples)))):
		case <-ctx.Done():
			return ctx.Err()
		}
		var m served
		if err := p.server.tell(model.Order{Do: "memory"}, &m); err != nil {
			return err
		}
		minutes, kB, live = append(minutes, time.Since(began).Minutes()), append(kB, m.Freed/1e3), append(live, m.Heap/1e3)
		part.Add(wholeTime, enduranceBy, mLive, "MB", m.Heap/1e6)
		part.Add(wholeTime, enduranceBy, mMemory, "MB", m.Freed/1e6)
		o.Say("  %5.1f min  %d changes, %d streams: %.1f MB, of which live %.2f MB", minutes[n], p.changes, (n+1)*waves/samples*small.Streams, m.Freed/1e6, m.Heap/1e6)
	}
	fifth := samples / 5
	part.Add(wholeTime, enduranceBy, mTime, "min", minutes[samples-1])
	part.Add(wholeTime, enduranceBy, mChanges, "", float64(p.changes))
	part.Add(wholeTime, enduranceBy, mShort, "", float64(waves*small.Streams))
	part.Add(wholeTime, enduranceBy, mSlope, "kB/min", slope(minutes[fifth:], kB[fifth:]))
	part.Add(wholeTime, enduranceBy, mLiveSlope, "kB/min", slope(minutes[fifth:], live[fifth:]))
	part.Add(wholeTime, enduranceBy, mGrowth, "×", bench.Median(kB[4*fifth:])/bench.Median(kB[fifth:2*fifth]))
	return nil
}

// burst has visitors come and go, with changes spread among them.
func burst(p *pair, visitors *child, waves, changes int) error {
	var f model.Heard
	for n := range waves {
		for range changes*(n+1)/waves - changes*n/waves {
			if err := p.server.tell(model.Order{Do: "change", N: p.changes}, &served{}); err != nil {
				return err
			}
			p.changes++
		}
		if err := visitors.tell(model.Order{Do: "connect"}, &f); err != nil {
			return err
		}
		if err := visitors.tell(model.Order{Do: "disconnect"}, &f); err != nil {
			return err
		}
	}
	return nil
}

// slope is that of the line with the least squares.
func slope(x, y []float64) float64 {
	var mx, my, xy, xx float64
	for i := range x {
		mx, my = mx+x[i]/float64(len(x)), my+y[i]/float64(len(x))
	}
	for i := range x {
		xy, xx = xy+(x[i]-mx)*(y[i]-my), xx+(x[i]-mx)*(x[i]-mx)
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}

func enduranceGoals(p *bench.Part) {
	f := p.Find(wholeTime, enduranceBy, mGrowth)
	v := 0.0
	if f != nil {
		v = f.Median
	}
	text := "memory in the last fifth of the time against the second fifth"
	for _, m := range []string{mChanges, mShort} {
		if f := p.Find(wholeTime, enduranceBy, m); f != nil {
			text += fmt.Sprintf("; %.0f %s", f.Median, m)
		}
	}
	p.AtMost(1.05, "×", text, v, f != nil)
}

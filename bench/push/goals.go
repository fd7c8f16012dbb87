package push

import (
	"fmt"

	"patchbay/bench"
	"patchbay/bench/model"
)

// goals compares the medians with what was aimed at.
func goals(p *bench.Part) {
	at := large.String()
	ratio := func(scenario, under, metric string, limit float64, text string) {
		v, ok := p.Ratio(scenario, patchbay, under, metric)
		p.AtMost(limit, "×", text, v, ok)
	}
	ratio(at, linear, mCPU, 0.25, "CPU of a change against the linear cache, "+at)
	ratio(at, perNode, mCPU, 0.01, "CPU of a change against a snapshot for each node, "+at)
	ratio(at, linear, mLast, 0.5, "change → last ACK against the linear cache, "+at)
	for _, s := range []model.Shape{wide, small} {
		ratio(s.String(), linear, mCPU, 1, "CPU of a change against the linear cache, "+s.String())
		ratio(s.String(), linear, mLast, 1, "change → last ACK against the linear cache, "+s.String())
	}
	v, ok := p.Ratio(wide.String(), withLEDS, linear, mCPU)
	p.AtMost(1, "×", "CPU of a change with LEDS against the linear cache, "+wide.String(), v, ok)
	v, ok = p.Ratio(wide.String(), withLEDS, linear, mLast)
	p.AtMost(0.5, "×", "change → last ACK with LEDS against the linear cache, "+wide.String(), v, ok)
	figure := func(s model.Shape, variant, metric string, limit float64, unit, text string) {
		f := p.Find(s.String(), variant, metric)
		if f == nil {
			p.AtMost(limit, unit, text, 0, false)
			return
		}
		p.AtMost(limit, unit, text, f.Median, true)
	}
	figure(wide, withLEDS, mBytes, 300, "B", fmt.Sprintf("one change of %d endpoints in one service, with LEDS", wide.Endpoints))
	figure(wide, patchbay, mBytes, float64(31*wide.Endpoints+100), "B", fmt.Sprintf("one change of %d endpoints in one service, without LEDS", wide.Endpoints))
	figure(large, patchbay, mCalm, 100, "kB", "memory per sidecar in plain text, after the calm, "+at)
	figure(large, patchbay+", mTLS", mCalm, 160, "kB", "memory per sidecar with mutual TLS, after the calm, "+at)
	figure(large, patchbay, mMade, 1, "", "responses encoded for one change, whatever the number of sidecars, "+at)
	figure(large, patchbay, mSlowX, 1.2, "×", "10 % read nothing: healthy sidecars against the undisturbed run")
	figure(large, patchbay, mNackX, 1.2, "×", "10 % reject: healthy sidecars against the undisturbed run")
	warm, cold := p.Find(at, patchbay, mWarmIn), p.Find(at, patchbay, mColdIn)
	if warm == nil || cold == nil {
		p.AtMost(0.01, "×", "bytes of a warm reconnect against a cold connect", 0, false)
		return
	}
	p.AtMost(0.01, "×", "bytes of a warm reconnect against a cold connect, "+at, warm.Median/cold.Median, true)
}

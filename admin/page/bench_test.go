package page_test

import (
	"fmt"
	"testing"
	"time"

	"patchbay/admin/api"
	"patchbay/admin/sample"
)

// BenchmarkThousand is the page of a thousand sidecars of a hundred services:
// from a change in the mesh, which is looked at once a second, until it is on
// the screen, and how long one view keeps the browser busy.
func BenchmarkThousand(b *testing.B) {
	m := sample.New(100, 1000)
	t := open(b, shown(b, m)+"#/sidecars", 1400, 860)
	t.until(`document.querySelectorAll('#sidecars tbody tr').length === 1001`)
	var sum time.Duration
	n := 0
	for b.Loop() {
		n++
		zone := fmt.Sprintf("zone-%d", n)
		start := time.Now()
		m.ChangeSidecar(500, func(s *api.Sidecar) { s.Zone = zone })
		t.until(`document.querySelector('#sidecars').textContent.includes('` + zone + `')`)
		sum += time.Since(start)
	}
	b.ReportMetric(float64(sum.Milliseconds())/float64(n), "ms/change-to-screen")
	for _, view := range []string{"map", "services", "sidecars"} {
		busy := value[float64](t, `(async () => {
			location.hash = '/`+view+`';
			await new Promise((done) => setTimeout(done, 1500));
			const seen = [], watch = new PerformanceObserver((l) => seen.push(...l.getEntries().map((e) => e.duration)));
			watch.observe({ type: 'longtask' });
			await new Promise((done) => setTimeout(done, 4000));
			return Math.max(0, ...seen);
		})()`)
		b.ReportMetric(busy, "ms-longest-task/"+view)
	}
}

package operator

import (
	"context"
	"fmt"
	"time"

	"github.com/chromedp/chromedp"

	"patchbay/bench"
)

// browser is Debian's Chromium.
const browser = "chromium"

// page times the page in a browser: from its address to the first view on the
// screen, and from an agent's word that its application is gone until the
// service's row says so.
func (w *world) page(ctx context.Context, o bench.Options) ([]bench.Row, error) {
	chromium, stop := chromedp.NewContext(ctx, chromedp.WithAllocatorOptions(chromedp.ExecPath(browser), chromedp.NoSandbox))
	defer stop()
	if err := chromedp.Do(chromium); err != nil {
		return nil, fmt.Errorf("start %s: %w; make bench-needs installs it", browser, err)
	}
	opened := bench.Row{Scenario: waits, Variant: "patchbay", Metric: "the page, opened in Chromium", Unit: "ms", Goal: "the page is on the screen, 1,000 sidecars", Limit: 3000}
	told := bench.Row{Scenario: waits, Variant: "patchbay", Metric: "an application is gone → the page shows it", Unit: "ms", Goal: "a change is on the page, 1,000 sidecars", Limit: 2000}
	rounds := o.Rounds(5, 2)
	for n := range rounds {
		first, change, err := w.visit(ctx, chromium, w.tasks[n*len(w.tasks)/rounds])
		if err != nil {
			return nil, err
		}
		opened.Values, told.Values = append(opened.Values, ms(first)), append(told.Values, ms(change))
	}
	o.Say("  the page: %.0f ms; a change on it: %.0f ms", bench.Median(opened.Values), bench.Median(told.Values))
	return []bench.Row{opened, told}, nil
}

// visit opens the page in a tab of its own, and takes the application of t away
// and back before it.
func (w *world) visit(ctx, chromium context.Context, t *task) (first, change time.Duration, err error) {
	tab, closed := chromedp.NewContext(chromium)
	defer closed()
	began := time.Now()
	if err := chromedp.Do(tab, chromedp.EmulateViewport(1400, 860), chromedp.Navigate("http://"+w.admin+"/#/services")); err != nil {
		return 0, 0, err
	}
	if err := shows(tab, t.service, "healthy"); err != nil {
		return 0, 0, err
	}
	first = time.Since(began)
	began = time.Now()
	if err := w.tell(ctx, t, false); err != nil {
		return 0, 0, err
	}
	if err := shows(tab, t.service, "unhealthy"); err != nil {
		return 0, 0, err
	}
	change = time.Since(began)
	return first, change, w.tell(ctx, t, true)
}

// shows waits until the row of a service has a text.
func shows(tab context.Context, service, text string) error {
	ctx, cancel := context.WithTimeout(tab, patience)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`new Promise((done) => {
		const look = () => {
			const rows = [...document.querySelectorAll('#services tr')].map((r) => r.textContent);
			if (rows.some((r) => r.includes('`+service+`.') && r.includes('`+text+`'))) done(true); else setTimeout(look, 5);
		};
		look();
	})`, chromedp.EvalAwaitPromise))
	return err
}

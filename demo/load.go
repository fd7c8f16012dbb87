package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"patchbay/demo/evidence"
	"patchbay/demo/lab"
	"patchbay/internal/poll"
)

// load is a running `demoapp load` inside a task: an ordinary HTTP client that
// calls at a fixed rate whatever the answers do.
type load struct{ p *lab.Process }

// startLoad calls url from h for so long; 0: until it is stopped.
func (w *world) startLoad(h *lab.Host, name, url string, rate int, duration time.Duration) (*load, error) {
	p, err := h.Start(name, nil, w.program("demoapp"), "load", "--rate", strconv.Itoa(rate), "--duration", duration.String(), url)
	return &load{p}, err
}

// now is the newest line; zero before the first.
func (l *load) now() evidence.Tally {
	var t evidence.Tally
	text, _ := os.ReadFile(l.p.Log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	json.Unmarshal([]byte(lines[len(lines)-1]), &t)
	return t
}

// finish stops the load and returns its figures; an error if a request failed,
// or if fewer than atLeast were made.
func (l *load) finish(atLeast int) (evidence.Tally, error) {
	l.p.Stop(15 * time.Second)
	t := l.now()
	switch {
	case !t.Done:
		return t, fmt.Errorf("the load did not end cleanly: %s", l.p.Tail(3))
	case t.Lost() != nil:
		return t, t.Lost()
	case t.Sent < atLeast:
		return t, fmt.Errorf("only %d requests were made", t.Sent)
	}
	return t, nil
}

// patience bounds every wait of a proof. What a proof shows is that it happens;
// how fast is its figure, and depends on the machine.
const patience = time.Minute

// underLoad runs f while url is called from h at rate, and fails if one
// request does.
func (w *world) underLoad(ctx context.Context, h *lab.Host, name, url string, rate int, f func() error) (evidence.Tally, error) {
	l, err := w.startLoad(h, name, url, rate, 5*time.Minute)
	if err != nil {
		return evidence.Tally{}, err
	}
	defer l.p.Stop(time.Second)
	if err := poll.Until(ctx, patience, func() error { return l.now().Begun() }); err != nil {
		return evidence.Tally{}, err
	}
	if err := f(); err != nil {
		return l.now(), err
	}
	if err := evidence.Pause(ctx, time.Second); err != nil {
		return l.now(), err
	}
	return l.finish(rate)
}

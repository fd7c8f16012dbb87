package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Client reads a registry's watch. It must not be copied; Run may run once at a
// time.
type Client struct {
	// URL is the registry's, such as http://127.0.0.1:18003. A path in it
	// stays in front of Path.
	URL string
	// HTTP makes the requests. It must have no overall timeout. Nil means
	// http.DefaultClient.
	HTTP *http.Client
	// Sign signs a request, where the registry asks for it; see SignV4. Nil
	// means that requests are not signed.
	Sign func(*http.Request) error
	// Log hears when the watch is lost and when it stands again. Nil: nobody.
	Log *slog.Logger

	standing atomic.Bool
}

// Standing reports whether the registry tells of changes just now.
func (c *Client) Standing() bool { return c.standing.Load() }

var errSilent = errors.New("the watch has been silent for too long")

// Run calls f for every event, from one goroutine, until ctx ends; it returns
// ctx's cause. It reconnects by itself, at once and then with pauses up to two
// seconds, and goes on where it was. Where that can't be, as at the start and
// after a restart of the registry, f gets an event of kind Resync first. f
// should not block for long: a reader that falls far behind gets a Resync.
func (c *Client) Run(ctx context.Context, f func(Event)) error {
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.Multiplier, pause.MaxInterval = 20*time.Millisecond, 2, 2*time.Second
	p := position{}
	lost := false
	for {
		err := c.stream(ctx, &p, f, func() {
			pause.Reset()
			c.standing.Store(true)
			if lost {
				log.Info("the registry's watch stands again", "url", c.URL)
			}
			lost = false
			c.standing.Store(true)
		})
		c.standing.Store(false)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !lost {
			log.Warn("the registry's watch is lost; it is tried again", "url", c.URL, "error", err)
		}
		lost = true
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// position is how far a client has read.
type position struct {
	epoch    string
	revision uint64
}

// stream reads one connection to its end. standing is called when the
// registry has said hello.
func (c *Client) stream(ctx context.Context, p *position, f func(Event), standing func()) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	silence := time.AfterFunc(patience, func() { stop(errSilent) })
	defer silence.Stop()
	body, err := c.open(ctx, *p)
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var l line
		if err := dec.Decode(&l); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("read the watch: %w", err)
		}
		silence.Reset(patience)
		if l.Kind == hello {
			p.epoch = l.Epoch
			standing()
		}
		if l.Kind == hello && l.Resync {
			l.Kind = Resync
		}
		if l.Kind != hello && l.Kind != heartbeat {
			f(l.Event)
		}
		p.revision = l.Revision
	}
}

func (c *Client) open(ctx context.Context, p position) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.URL, "/")+Path, nil)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", c.URL, err)
	}
	if p.epoch != "" {
		q := req.URL.Query()
		q.Set("epoch", p.epoch)
		q.Set("from", strconv.FormatUint(p.revision, 10))
		req.URL.RawQuery = q.Encode()
	}
	if c.Sign != nil {
		if err := c.Sign(req); err != nil {
			return nil, fmt.Errorf("sign the watch: %w", err)
		}
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("open the watch: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 300)) // for the message only
		return nil, errors.Join(fmt.Errorf("open the watch: %s: %s", res.Status, strings.TrimSpace(string(text))), res.Body.Close())
	}
	return res.Body, nil
}

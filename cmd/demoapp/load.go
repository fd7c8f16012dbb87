package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// report is printed as one JSON line each second (figures since the start).
type report struct {
	Sent   int            `json:"sent"`
	OK     int            `json:"ok"`
	Failed int            `json:"failed"`
	Errors map[string]int `json:"errors,omitempty"` // by text; the first eight kinds
	By     map[string]int `json:"by"`               // answers by server
	P50MS  float64        `json:"p50_ms"`           // of the last second
	P99MS  float64        `json:"p99_ms"`
	Done   bool           `json:"done"`
}

func newLoad() *cobra.Command {
	var rate int
	var duration, timeout time.Duration
	var fresh bool
	c := &cobra.Command{
		Use: "load URL", Short: "GETs at a fixed rate (open loop) until the duration ends or the program is told to stop", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx := c.Context()
			if duration > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, duration)
				defer cancel()
			}
			transport := http.DefaultTransport.(*http.Transport).Clone()
			transport.MaxIdleConnsPerHost, transport.DisableKeepAlives = 256, fresh
			l := &load{
				client: &http.Client{Timeout: timeout, Transport: transport}, url: args[0], out: json.NewEncoder(c.OutOrStdout()),
				sum: report{Errors: map[string]int{}, By: map[string]int{}},
			}
			return l.run(ctx, rate)
		},
	}
	c.Flags().IntVar(&rate, "rate", 500, "requests per second, at most 5000")
	c.Flags().DurationVar(&duration, "duration", time.Minute, "how long, at most 10m; 0: until it is told to stop")
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "limit of one request")
	c.Flags().BoolVar(&fresh, "new-connections", false, "a new connection for each request")
	c.PreRunE = func(*cobra.Command, []string) error {
		if rate < 1 || rate > 5000 || duration < 0 || duration > 10*time.Minute {
			return fmt.Errorf("--rate is 1 to 5000, --duration up to 10m; got %d and %v", rate, duration)
		}
		return nil
	}
	return c
}

type load struct {
	client *http.Client
	url    string
	out    *json.Encoder

	mu   sync.Mutex
	sum  report
	last []time.Duration // of the current second
}

// run fires requests on schedule whatever the earlier ones do, and waits for
// the last of them.
func (l *load) run(ctx context.Context, rate int) error {
	var inFlight sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(rate))
	second := time.NewTicker(time.Second)
	defer tick.Stop()
	defer second.Stop()
	start, sent := time.Now(), 0
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-second.C:
			l.print(false)
		case <-tick.C:
			for due := int(time.Since(start).Seconds() * float64(rate)); sent < due; sent++ {
				inFlight.Go(func() { l.one(context.WithoutCancel(ctx)) })
			}
		}
	}
	inFlight.Wait()
	l.print(true)
	return nil
}

func (l *load) one(ctx context.Context) {
	began := time.Now()
	by, err := l.get(ctx)
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum.Sent++
	l.last = append(l.last, took)
	if err == nil {
		l.sum.OK++
		l.sum.By[by]++
		return
	}
	l.sum.Failed++
	if _, known := l.sum.Errors[err.Error()]; known || len(l.sum.Errors) < 8 {
		l.sum.Errors[err.Error()]++
	}
}

func (l *load) get(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url, nil)
	if err != nil {
		return "", err
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return text, nil
}

func (l *load) print(done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum.Done = done
	if n := len(l.last); n > 0 {
		slices.Sort(l.last)
		l.sum.P50MS = float64(l.last[n/2].Microseconds()) / 1000
		l.sum.P99MS = float64(l.last[n*99/100].Microseconds()) / 1000
		l.last = l.last[:0]
	}
	l.out.Encode(l.sum)
}

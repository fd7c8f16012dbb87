// Package evidence is what a proof looks at, wherever its mesh runs: what a load
// of requests counted, and what an Envoy holds.
//
// It owns what they mean. It must not know how they are got. Start reading at
// [Tally].
package evidence

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Tally is what `demoapp load` prints: see cmd/demoapp.
type Tally struct {
	Sent   int            `json:"sent"`
	OK     int            `json:"ok"`
	Failed int            `json:"failed"`
	Errors map[string]int `json:"errors"`
	By     map[string]int `json:"by"` // answers, by who gave them
	P50MS  float64        `json:"p50_ms"`
	P99MS  float64        `json:"p99_ms"`
	Done   bool           `json:"done"`
}

// Begun is nil once a request has succeeded.
func (t Tally) Begun() error {
	if t.OK == 0 {
		return fmt.Errorf("no request has succeeded yet: %+v", t)
	}
	return nil
}

// Lost is nil while no request has failed.
func (t Tally) Lost() error {
	if t.Failed > 0 {
		return fmt.Errorf("%d of %d requests failed: %v", t.Failed, t.Sent, t.Errors)
	}
	return nil
}

// NoLeaf is nil if an Envoy holds no certificate to serve or to call with. dump is
// its /config_dump?resource=dynamic_active_secrets.
func NoLeaf(dump string) error {
	var all struct {
		Configs []struct {
			Name   string
			Secret map[string]any
		}
	}
	if err := json.Unmarshal([]byte(dump), &all); err != nil {
		return fmt.Errorf("read Envoy's secrets: %w", err)
	}
	for _, c := range all.Configs {
		// "node" is for the control channel alone; every task has one.
		if c.Secret["tls_certificate"] != nil && c.Name != "node" {
			return fmt.Errorf("the frontend's Envoy holds the certificate %s", c.Name)
		}
	}
	return nil
}

// Pause waits, or ends early with ctx.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Package ecs is what a container learns from ECS about its own task: the task
// metadata endpoint version 4.
//
// It owns the form of the endpoint's answers, how long they are waited for, and
// what follows from them for a sidecar: the network mode, the zone, the health
// of a port's container. What is said there is not proved: it is never taken
// for an identity. It must not know Envoy nor the control plane. Start reading
// at [Endpoint.Wait], then [Task].
package ecs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Variable is where ECS tells a container the address of its endpoint.
const Variable = "ECS_CONTAINER_METADATA_URI_V4"

// StopTimeout is ECS's default of a container's stopTimeout.
const StopTimeout = 30 * time.Second

const (
	// answerTime bounds one request: an endpoint that hangs is asked again.
	answerTime = 2 * time.Second
	// startTime is how long a first answer is waited for: the endpoint is up
	// before any container, so that more is a fault to be told.
	startTime = 20 * time.Second
	// maxAnswer is far above what a task of ten containers has.
	maxAnswer  = 1 << 20
	retryFirst = 100 * time.Millisecond
	retryMost  = 2 * time.Second
	// Poll is how often the health of containers is asked for. Docker itself
	// runs health checks every 5 s at most.
	Poll = time.Second
)

// ErrMetadata is matched by every error of this package: the endpoint does not
// answer, or not as documented.
var ErrMetadata = errors.New("task metadata (" + Variable + ")")

// Endpoint is the metadata endpoint of this container. It must not be used
// concurrently.
type Endpoint struct {
	uri    string
	client *http.Client
	own    string // DockerId of this container, once known
}

// FromEnv is the endpoint that the environment names; nil where there is none,
// which is outside ECS.
func FromEnv() (*Endpoint, error) {
	uri := os.Getenv(Variable)
	if uri == "" {
		return nil, nil //nolint:nilnil // "not on ECS" is an answer
	}
	return New(uri)
}

// New takes what [Variable] holds.
func New(uri string) (*Endpoint, error) {
	if u, err := url.Parse(uri); err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%w: %.200q; allowed: the address that ECS sets, such as http://169.254.170.2/v4/ID", ErrMetadata, uri)
	}
	return &Endpoint{uri: uri, client: &http.Client{
		Timeout:       answerTime,
		Transport:     &http.Transport{Proxy: nil, MaxIdleConns: 2, IdleConnTimeout: time.Minute}, // a proxy is for the application
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Wait asks until there is a good answer, for at most 20 s. Its error says what
// is wrong with the last one; or it is ctx's cause.
func (e *Endpoint) Wait(ctx context.Context, log *slog.Logger) (*Task, error) {
	limited, stop := context.WithTimeout(ctx, startTime)
	defer stop()
	b := &backoff.ExponentialBackOff{InitialInterval: retryFirst, MaxInterval: retryMost, Multiplier: 2, RandomizationFactor: 0.3}
	told := ""
	var last error
	t, err := backoff.Retry(limited, func() (*Task, error) {
		t, err := e.Read(limited)
		if err != nil && (last == nil || limited.Err() == nil) { // not "deadline exceeded", which says nothing
			last = err
		}
		return t, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		if err.Error() != told {
			told = err.Error()
			log.WarnContext(ctx, "waiting for the task's metadata", "error", told)
		}
	}))
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("%w, after %s", last, startTime)
	}
	return t, nil
}

// Read asks once.
func (e *Endpoint) Read(ctx context.Context) (*Task, error) {
	if e.own == "" {
		var c container
		if err := e.get(ctx, "", &c); err != nil {
			return nil, err
		}
		if c.DockerID == "" {
			return nil, fmt.Errorf("%w: %s: DockerId: is missing", ErrMetadata, e.uri)
		}
		e.own = c.DockerID
	}
	var raw task
	if err := e.get(ctx, "/task", &raw); err != nil {
		return nil, err
	}
	t, err := raw.read(e.own)
	if err != nil {
		return nil, fmt.Errorf("%w: %s/task: %w", ErrMetadata, e.uri, err)
	}
	return t, nil
}

// Watch calls f with the task as it is, again and again until ctx ends, and
// returns ctx's cause. While the endpoint does not answer f is not called: what
// was known goes on to count.
func (e *Endpoint) Watch(ctx context.Context, log *slog.Logger, f func(*Task)) error {
	tick := time.NewTicker(Poll)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		t, err := e.Read(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			if told != "" {
				log.InfoContext(ctx, "the task's metadata can be read again")
			}
			told = ""
			f(t)
		case err.Error() != told:
			told = err.Error()
			log.WarnContext(ctx, "the task's metadata can't be read; the health of its containers stays as it was", "error", told)
		}
	}
}

func (e *Endpoint) get(ctx context.Context, path string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.uri+path, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	resp, err := e.client.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMetadata, err) // names the address
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s%s: %w", ErrMetadata, e.uri, path, err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%w: %s%s: %s: %.200q", ErrMetadata, e.uri, path, resp.Status, text)
	case len(text) > maxAnswer:
		return fmt.Errorf("%w: %s%s: more than %d bytes", ErrMetadata, e.uri, path, maxAnswer)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%w: %s%s: not the JSON that ECS documents: %w", ErrMetadata, e.uri, path, err)
	}
	return nil
}

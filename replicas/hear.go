package replicas

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"patchbay/mesh"
)

// peer is another replica. Its fields are guarded by Replicas.mu.
type peer struct {
	name  string
	stop  context.CancelFunc
	heard bool
	since time.Time // that it is heard, or is not
	view  []string  // as it says
	marks map[mesh.ServiceName]uint64

	content string    // as it says
	differs time.Time // since when that is not our own
}

// listen hears one replica until ctx ends. It connects again by itself.
func (r *Replicas) listen(ctx context.Context, p *peer) {
	client := r.client(p.name)
	defer client.CloseIdleConnections()
	for said := ""; ; {
		err := r.hear(ctx, client, p)
		was := r.heard(p, false)
		if ctx.Err() != nil {
			return
		}
		if text := err.Error(); was || text != said {
			r.o.Log.Warn("a replica is not heard; what it asked for is asked for here", "replica", p.name, "error", err)
			said = text
		}
		if !sleep(ctx, time.Second) {
			return
		}
	}
}

func (r *Replicas) client(address string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return r.o.Dial(ctx, address) },
		MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
	}}
}

var errSilent = errors.New("it has been silent for too long")

// hear reads what one replica tells, until it falls silent.
func (r *Replicas) hear(ctx context.Context, client *http.Client, p *peer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer quiet.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.name+"/v1/hear", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return cmpCause(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		quiet.Reset(silence)
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("what it says can't be read: %w", err)
		}
		if m.Replica != p.name {
			return fmt.Errorf("at its address answers another, %q", m.Replica)
		}
		r.take(p, m)
	}
	return cmpCause(ctx, errors.Join(lines.Err(), io.ErrUnexpectedEOF))
}

func cmpCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// take learns from a line, and passes on what is news.
func (r *Replicas) take(p *peer, m message) {
	own := r.content()
	r.mu.Lock()
	switch p.content = m.Content; {
	case own == "" || m.Content == "" || own == m.Content:
		p.differs = time.Time{}
	case p.differs.IsZero():
		p.differs = time.Now()
	}
	moved := !slices.Equal(p.view, m.View)
	p.view = m.View
	for _, s := range m.Saw {
		p.marks[mesh.ServiceName{Namespace: s.Namespace, DiscoveryName: s.Service}] = s.Mark
	}
	r.mu.Unlock()
	if r.heard(p, true); moved {
		r.o.Follower.Reconsider()
	}
	for _, l := range m.Leaving {
		r.o.Follower.Leaving(mesh.ServiceName{Namespace: l.Namespace, DiscoveryName: l.Service}, l.Instance)
	}
	if r.o.Stored != nil {
		for _, s := range m.Stored {
			r.o.Stored(mesh.ServiceName{Namespace: s.Namespace, DiscoveryName: s.Service}, s.Generation)
		}
	}
	for _, s := range m.Saw {
		r.o.Follower.Told(mesh.ServiceName{Namespace: s.Namespace, DiscoveryName: s.Service}, s.Mark)
	}
}

// heard notes whether a replica is heard, and returns whether it was before.
func (r *Replicas) heard(p *peer, now bool) bool {
	r.mu.Lock()
	was := p.heard
	if p.heard = now; was != now {
		p.since = time.Now()
		close(r.changed)
		r.changed = make(chan struct{})
	}
	if !now {
		p.view, p.content, p.differs = nil, "", time.Time{}
		clear(p.marks)
	}
	r.mu.Unlock()
	if was != now {
		if now {
			r.o.Log.Info("a replica is heard; the polling is shared", "replica", p.name)
		}
		r.o.Follower.Reconsider()
	}
	return was
}

// Removed is [Barrier] for the subscribers of all replicas that are heard. One
// that fails to answer is named in the error; its subscribers are not known.
func (r *Replicas) Removed(ctx context.Context, s mesh.ServiceName, addr netip.AddrPort) ([]string, error) {
	r.mu.Lock()
	var ask []string
	for name, p := range r.listed {
		if p.heard {
			ask = append(ask, name)
		}
	}
	r.mu.Unlock()
	var (
		mu   sync.Mutex
		all  = map[string]bool{}
		errs []error
		wg   sync.WaitGroup
	)
	note := func(missing []string, err error) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range missing {
			all[m] = true
		}
		errs = append(errs, err)
	}
	wg.Go(func() { note(r.o.Barrier.Removed(ctx, s, addr)) })
	for _, name := range ask {
		wg.Go(func() { note(r.removedAt(ctx, name, s, addr)) })
	}
	wg.Wait()
	missing := slices.Sorted(maps.Keys(all))
	return missing, errors.Join(errs...)
}

// removedAt asks one other replica. It is given a little less time than there
// is, so that its answer arrives.
func (r *Replicas) removedAt(ctx context.Context, name string, s mesh.ServiceName, addr netip.AddrPort) ([]string, error) {
	within := time.Minute
	if end, ok := ctx.Deadline(); ok {
		within = time.Until(end) * 9 / 10
	}
	body, err := json.Marshal(removal{s.Namespace, s.DiscoveryName, addr, within})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+name+"/v1/removed", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	client := r.client(name)
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask replica %s for its sidecars: %w", name, err)
	}
	defer resp.Body.Close()
	var a outcome
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxLine)).Decode(&a); err != nil {
		return nil, fmt.Errorf("ask replica %s for its sidecars: %s: %w", name, resp.Status, err)
	}
	if a.Error != "" {
		err = fmt.Errorf("replica %s: %s", name, a.Error)
	}
	return a.Missing, err
}

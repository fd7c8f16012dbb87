package replicas

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
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
		r.lost[p.name] = !now
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

package etcd

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"patchbay/registry/store"
)

const (
	// pulse is how often the cluster is asked for a sign of life.
	pulse = 2 * time.Second
	// pause is between two attempts to follow it.
	pause = 500 * time.Millisecond
)

// Run is Shared's. Where the cluster no longer has what was missed (it was
// compacted), everything is read again.
func (s *Store) Run(ctx context.Context) error {
	failing := false
	for {
		err := s.follow(ctx, func() {
			if failing {
				s.log.Info("the registry follows etcd again")
			}
			failing = false
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && !failing {
			s.log.Warn("the registry can't follow etcd; it answers from memory and tries again", "error", err.Error())
		}
		failing = failing || err != nil
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// follow hears of changes until it can't. It returns nil when it is to be
// called again although nothing has failed.
func (s *Store) follow(ctx context.Context, well func()) error {
	s.mu.Lock()
	loaded, from := s.loaded, s.seen+1
	s.mu.Unlock()
	if !loaded {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	answers := s.client.Watch(clientv3.WithRequireLeader(ctx), s.prefix, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithCreatedNotify())
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		select {
		case a, open := <-answers:
			if !open {
				return errors.New("the watch has ended")
			}
			if err := a.Err(); errors.Is(err, rpctypes.ErrCompacted) {
				return s.resync(ctx)
			} else if err != nil {
				return err
			}
			well()
			s.take(a)
		case <-s.again:
			return s.resync(ctx)
		case <-tick.C:
			s.pulse(ctx)
		}
	}
}

// pulse asks for a sign of life. A failure shows by the silence. (The watch's
// own answers to that question may come before events that precede them.)
func (s *Store) pulse(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pulse)
	defer cancel()
	if _, err := s.client.Get(ctx, s.headKey(), clientv3.WithKeysOnly()); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.heard = time.Now()
	}
}

// take files an answer's events, which are in the order of their revisions and
// have all of each.
func (s *Store) take(a clientv3.WatchResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
	for i := 0; i < len(a.Events); {
		b := batch{revision: a.Events[i].Kv.ModRevision}
		for ; i < len(a.Events) && a.Events[i].Kv.ModRevision == b.revision; i++ {
			e := a.Events[i]
			if string(e.Kv.Key) == s.headKey() {
				b.head = b.revision
			} else if c, ours := s.record(e.Kv); ours {
				if e.Type == clientv3.EventTypeDelete {
					c.Value = nil
				}
				b.changes = append(b.changes, c)
			}
		}
		if b.head == 0 { // not by a registry: what it means for our copy, only a reading tells
			s.log.Warn("somebody else has written beneath the registry's prefix in etcd; everything is read again", "prefix", s.prefix)
			s.ask()
			continue
		}
		s.inbox = append(s.inbox, b)
		s.seen = max(s.seen, b.revision)
	}
	s.tell()
}

func (s *Store) ask() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// tell wakes who waits. The lock is held.
func (s *Store) tell() {
	close(s.news)
	s.news = make(chan struct{})
	if len(s.inbox) == 0 {
		return
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// resync reads everything. Its time grows with what there is, so it has more.
func (s *Store) resync(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, 6*patience)
	defer stop()
	b, err := s.read(ctx)
	if err != nil {
		s.ask()
		return err
	}
	s.log.Warn("the registry has read everything again from etcd", "records", len(b.changes), "revision", b.revision)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inbox = []batch{b}
	s.seen, s.heard = b.revision, time.Now()
	s.tell()
	return nil
}

var _ store.Shared = (*Store)(nil)

// Package tap shows requests through the task's Envoy while somebody looks.
//
// It owns the lease: Envoy's log of requests is off, is switched on for one
// looker at a time, within what that one asked for, and is off again whatever
// happens to the looker. It takes what Envoy logs on a Unix socket, and neither
// keeps it nor writes it anywhere. It must not know who looks. Start reading at
// [Tap.Show].
package tap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	logv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"

	"patchbay/agentapi"
	"patchbay/xds/bootstrap"
)

const (
	// MaxTime is the longest that may be asked for.
	MaxTime = time.Hour
	// MaxRate is the most, in requests a second.
	MaxRate = 1000
	// waiting is how many requests may wait for a slow looker.
	waiting = 256
	// turn is how often the sample is measured, and said to Envoy again: one
	// that was restarted has forgotten it.
	turn = time.Second
	// offTime bounds the call that switches Envoy's log off.
	offTime = 2 * time.Second
)

// Runtime is Envoy's.
type Runtime interface {
	// SetRuntime sets values by key; an empty one is taken away.
	SetRuntime(ctx context.Context, values map[string]string) error
}

// Config of a [Tap].
type Config struct {
	Runtime Runtime
	Socket  string // where Envoy logs to
	UID     int    // Envoy's user; 0: this process's
	// Service names the service of an offered port, discoveryName.namespace.
	Service func(portName string) string
	Log     *slog.Logger
}

// Tap is the one of a task. It is safe for concurrent use.
type Tap struct {
	logv3.UnimplementedAccessLogServiceServer
	c     Config
	stray chan struct{} // capacity 1: Envoy logs for nobody

	runtime sync.Mutex // held while Envoy is told what to log
	mu      sync.Mutex // never held while anything is waited for
	lease   *lease     // nil while nobody looks
}

// lease is one looker.
type lease struct {
	want   *agentapi.Tap
	until  time.Time
	out    chan agentapi.Request
	sample uint32 // of a million; of [Tap.Show] alone

	// Guarded by Tap.mu.
	logged  uint32 // by Envoy, since the last turn
	leftOut uint64 // since that was last said
}

// New does no I/O.
func New(c Config) *Tap { return &Tap{c: c, stray: make(chan struct{}, 1)} }

// Run takes what Envoy logs until ctx ends.
func (t *Tap) Run(ctx context.Context) error {
	if err := os.Remove(t.c.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("socket of taps: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", t.c.Socket)
	if err != nil {
		return fmt.Errorf("socket of taps: %w", err)
	}
	if err := os.Chmod(t.c.Socket, 0o600); err != nil {
		return errors.Join(fmt.Errorf("socket of taps: %w", err), l.Close())
	}
	if t.c.UID > 0 && t.c.UID != os.Geteuid() {
		if err := os.Chown(t.c.Socket, t.c.UID, t.c.UID); err != nil {
			return errors.Join(fmt.Errorf("socket of taps: %w", err), l.Close())
		}
	}
	server := grpc.NewServer()
	logv3.RegisterAccessLogServiceServer(server, t)
	defer context.AfterFunc(ctx, server.Stop)()
	go t.sweep(ctx)
	if err := server.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("socket of taps: %w", err)
	}
	return context.Cause(ctx)
}

// sweep switches the log off where Envoy logs for nobody: the call that ended
// the last lease has failed.
func (t *Tap) sweep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.stray:
			t.off(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(turn):
		}
	}
}

// Show hands requests to say, as they end, until the time that want names is
// over, or ctx ends; then it returns nil. An error says why nothing is shown.
func (t *Tap) Show(ctx context.Context, want *agentapi.Tap, say func(agentapi.Tapped)) error {
	if err := check(want); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, want.GetLasts().AsDuration())
	defer cancel()
	l := &lease{want: want, until: time.Now().Add(want.GetLasts().AsDuration()), out: make(chan agentapi.Request, waiting), sample: want.GetSample()}
	if err := t.enter(l); err != nil {
		return err
	}
	defer t.off(context.WithoutCancel(ctx))
	defer t.leave()
	if err := t.on(ctx, l); err != nil {
		return err
	}
	t.c.Log.InfoContext(ctx, "requests are shown to an operator", "lasts", want.GetLasts().AsDuration(), "sample", l.sample)
	say(agentapi.Tapped{Sample: l.sample})
	tick := time.NewTicker(turn)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-l.out:
			say(agentapi.Tapped{Requests: l.more(r), Sample: l.sample})
		case <-tick.C:
			before := l.sample
			leftOut := t.turn(l)
			if err := t.on(ctx, l); err != nil && ctx.Err() == nil {
				t.c.Log.WarnContext(ctx, "Envoy could not be told what to log", "error", err)
			}
			if leftOut > 0 || l.sample != before {
				say(agentapi.Tapped{Sample: l.sample, LeftOut: leftOut})
			}
		}
	}
}

// check is a last guard: the control plane has asked the operator to do better.
func check(want *agentapi.Tap) error {
	switch d := want.GetLasts().AsDuration(); {
	case d <= 0 || d > MaxTime:
		return fmt.Errorf("lasts %s; allowed: up to %s", d, MaxTime)
	case want.GetSample() == 0 || want.GetSample() > bootstrap.TapMillion:
		return fmt.Errorf("sample %d; allowed: 1 to %d", want.GetSample(), bootstrap.TapMillion)
	case want.GetMost() == 0 || want.GetMost() > MaxRate:
		return fmt.Errorf("most %d; allowed: 1 to %d", want.GetMost(), MaxRate)
	}
	return nil
}

func (t *Tap) enter(l *lease) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lease != nil {
		return fmt.Errorf("its requests are shown to somebody already, until %s at the latest: one at a time", t.lease.until.UTC().Format(time.TimeOnly+"Z"))
	}
	t.lease = l
	return nil
}

func (t *Tap) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lease = nil
}

// on has Envoy log the lease's share of the requests.
func (t *Tap) on(ctx context.Context, l *lease) error {
	t.runtime.Lock()
	defer t.runtime.Unlock()
	status := ""
	if n := l.want.GetLeastStatus(); n > 0 {
		status = strconv.Itoa(int(n))
	}
	return t.c.Runtime.SetRuntime(ctx, map[string]string{bootstrap.TapFraction: strconv.Itoa(int(l.sample)), bootstrap.TapStatus: status})
}

// off has Envoy log nothing, unless somebody looks by now.
func (t *Tap) off(ctx context.Context) {
	t.runtime.Lock()
	defer t.runtime.Unlock()
	t.mu.Lock()
	somebody := t.lease != nil
	t.mu.Unlock()
	if somebody {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, offTime)
	defer cancel()
	if err := t.c.Runtime.SetRuntime(ctx, map[string]string{bootstrap.TapFraction: "", bootstrap.TapStatus: ""}); err != nil {
		t.c.Log.WarnContext(ctx, "Envoy's log of requests could not be switched off; it is tried again when it logs", "error", err)
	}
}

// turn ends one turn: where Envoy has logged more than was asked for, it is to
// log less; where it is far from that, more again. It returns what was left out.
func (t *Tap) turn(l *lease) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	most := l.want.GetMost()
	switch {
	case l.logged > most:
		l.sample = max(1, uint32(uint64(l.sample)*uint64(most)/uint64(l.logged)))
	case l.logged < most/2:
		l.sample = min(l.want.GetSample(), l.sample*2)
	}
	leftOut := l.leftOut
	l.logged, l.leftOut = 0, 0
	return leftOut
}

// more is r and what else waits.
func (l *lease) more(r agentapi.Request) []agentapi.Request {
	out := []agentapi.Request{r}
	for {
		select {
		case r := <-l.out:
			out = append(out, r)
		default:
			return out
		}
	}
}

// StreamAccessLogs is Envoy's: one stream for each worker and direction.
func (t *Tap) StreamAccessLogs(stream logv3.AccessLogService_StreamAccessLogsServer) error {
	direction := ""
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if id := m.GetIdentifier(); id != nil { // in the first message
			direction = id.GetLogName()
		}
		for _, e := range m.GetHttpLogs().GetLogEntry() {
			t.take(direction, func(w *agentapi.Tap) agentapi.Request { return t.request(direction, w, e) })
		}
		for _, e := range m.GetTcpLogs().GetLogEntry() {
			t.take(direction, func(*agentapi.Tap) agentapi.Request { return t.connection(direction, e) })
		}
	}
}

// take hands a request to whoever looks, if it is one of those asked for. It
// never waits.
func (t *Tap) take(direction string, read func(*agentapi.Tap) agentapi.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lease
	if l == nil {
		select {
		case t.stray <- struct{}{}:
		default:
		}
		return
	}
	if l.logged++; l.logged > l.want.GetMost() {
		l.leftOut++
		return
	}
	if d := l.want.GetDirection(); d != "" && d != direction {
		return
	}
	r := read(l.want)
	if !matches(l.want, r) {
		return
	}
	select {
	case l.out <- r:
	default:
		l.leftOut++
	}
}

package agents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
	"patchbay/mesh"
)

// helloTime is how long an agent may take to say who it is.
const helloTime = 10 * time.Second

// outgoing is how many messages may wait for a slow agent. Names are made anew
// for each change, so only registrations could add up.
const outgoing = 64

var errReplaced = status.Error(codes.Aborted, "replaced by a newer stream of the same node; if this happens again and again, two tasks use one task name")

// session is one stream.
type session struct {
	srv          *Server
	node         mesh.Node
	addr         netip.Addr // where the agent connects from; what is registered
	zone         string
	dependencies mesh.Dependencies // what it is told the names of
	log          *slog.Logger
	ports        []*port
	out          chan *agentapi.Down
	// cancel ends the session; done is closed when it has ended.
	cancel context.CancelCauseFunc
	done   chan struct{}

	mu sync.Mutex
	st state
}

// state is what a session knows of its agent. Guarded by session.mu.
type state struct {
	since, lastHealth time.Time
	hello             *agentapi.Hello
	health            *agentapi.Health // nil before the first
	beats             uint64           // health messages so far
	applied           *agentapi.NamesApplied
	namesSent         string
	draining          bool
	waiting           map[uint64]waiter // for answers, by question
}

func (s *session) update(f func(*state)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.st)
}

// Connect serves one agent until its stream breaks, a newer stream of the same
// node replaces it, or what it says is not acceptable.
func (s *Server) Connect(stream agentapi.Agent_ConnectServer) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	node, err := s.o.Peer(ctx)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	addr, err := peerAddr(ctx)
	if err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	v := &session{
		srv: s, node: node, addr: addr, cancel: cancel, done: make(chan struct{}),
		log: s.o.Log.With("node", node.ID(), "address", addr.String()),
		out: make(chan *agentapi.Down, outgoing),
	}
	ups := receive(ctx, stream, cancel)
	hello, err := firstHello(ctx, ups)
	if err != nil {
		return err
	}
	ports, err := decodeHello(node, hello)
	if err != nil {
		v.log.WarnContext(ctx, "agent refused", "error", err)
		return status.Error(codes.InvalidArgument, err.Error())
	}
	cleanHello(hello)
	v.zone, v.dependencies = hello.GetZone(), mesh.DependenciesOf(hello.GetDependencies())
	v.st = state{since: time.Now(), hello: hello}
	if err := s.enter(ctx, v); err != nil {
		return err
	}
	v.adopt(ports)
	defer s.leave(v)
	defer v.remember()
	go transmit(ctx, stream, v.out, cancel)
	if addr.IsLoopback() && len(ports) > 0 {
		v.log.WarnContext(ctx, "the agent connects over loopback, so its ports are registered there: only tasks in this network namespace can call them; give it an address of this machine with --agent", "address", addr.String())
	}
	v.log.InfoContext(ctx, "agent connected", "agent_version", hello.GetAgentVersion(), "envoy_version", hello.GetEnvoyVersion(), "ports", len(ports))
	err = v.run(ctx, ups)
	v.log.InfoContext(ctx, "agent disconnected", "error", err)
	return err
}

// enter makes v the node's stream, after the older one has ended.
func (s *Server) enter(ctx context.Context, v *session) error {
	s.mu.Lock()
	old := s.sessions[v.node.ID()]
	s.sessions[v.node.ID()] = v
	if old != nil {
		s.replaced(old, v)
	}
	s.mu.Unlock()
	if old == nil {
		return nil
	}
	if old.addr != v.addr {
		v.log.WarnContext(ctx, "agent stream replaced from another address", "old_address", old.addr.String())
	}
	old.cancel(errReplaced)
	select {
	case <-old.done:
		return nil
	case <-ctx.Done():
		s.leave(v)
		return context.Cause(ctx)
	}
}

func (s *Server) leave(v *session) {
	s.mu.Lock()
	if s.sessions[v.node.ID()] == v {
		delete(s.sessions, v.node.ID())
	}
	s.mu.Unlock()
	s.traffic.Forget(v.node.ID())
	close(v.done)
}

// run handles what the agent says until ctx ends.
func (s *session) run(ctx context.Context, ups <-chan *agentapi.Up) error {
	ctx, stop := context.WithCancelCause(ctx)
	portsCtx, stopPorts := context.WithCancel(ctx)
	var wg, workers sync.WaitGroup
	defer func() {
		stop(nil)
		stopPorts()
		workers.Wait()
		wg.Wait()
	}()
	if err := s.send(&agentapi.Down{Message: &agentapi.Down_Welcome{Welcome: &agentapi.Welcome{ControlPlane: s.srv.o.Name}}}); err != nil {
		return err
	}
	wg.Go(func() { s.sendNames(ctx) })
	for _, p := range s.ports {
		workers.Go(func() { p.run(portsCtx) })
	}
	for {
		select {
		case <-ctx.Done():
			return ended(ctx)
		case up := <-ups:
			switch m := up.GetMessage().(type) {
			case *agentapi.Up_Health:
				s.onHealth(ctx, m.Health)
			case *agentapi.Up_NamesApplied:
				cleanNames(m.NamesApplied)
				s.update(func(st *state) { st.applied = m.NamesApplied })
			case *agentapi.Up_Traffic:
				s.srv.traffic.Report(s.node, m.Traffic)
			case *agentapi.Up_Answer:
				s.answered(ctx, m.Answer)
			case *agentapi.Up_Drain:
				if s.startDrain() {
					wg.Go(func() {
						stopPorts()
						workers.Wait()
						s.drain(ctx)
					})
				}
			default:
				return status.Error(codes.InvalidArgument, "unexpected message; allowed after the first: health, names_applied, drain, answer, traffic")
			}
		}
	}
}

// ended is why a session is over; nil if the agent closed its stream.
func ended(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (s *session) onHealth(ctx context.Context, h *agentapi.Health) {
	s.cleanHealth(h)
	var before string
	s.update(func(st *state) {
		before = st.health.GetEnvoyError()
		st.health, st.lastHealth = h, time.Now()
		st.beats++
	})
	if h.GetEnvoyError() != before && h.GetEnvoyError() != "" {
		s.log.ErrorContext(ctx, "Envoy refuses a listener", "error", h.GetEnvoyError())
	}
	for _, p := range s.ports {
		p.poke()
	}
}

// startDrain reports whether this is the first Drain.
func (s *session) startDrain() (first bool) {
	s.update(func(st *state) { first, st.draining = !st.draining, true })
	return first
}

// send queues a message; it fails when the agent does not read.
func (s *session) send(m *agentapi.Down) error {
	select {
	case s.out <- m:
		return nil
	default:
		err := status.Error(codes.ResourceExhausted, "the agent does not read its stream")
		s.cancel(err)
		return err
	}
}

// transmit is the only writer of a stream. It ends with the stream.
func transmit(ctx context.Context, stream agentapi.Agent_ConnectServer, out <-chan *agentapi.Down, cancel context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-out:
			if err := stream.Send(m); err != nil {
				cancel(err)
				return
			}
		}
	}
}

// receive is the only reader of a stream. It ends with the stream.
func receive(ctx context.Context, stream agentapi.Agent_ConnectServer, cancel context.CancelCauseFunc) <-chan *agentapi.Up {
	ups := make(chan *agentapi.Up)
	go func() {
		for {
			up, err := stream.Recv()
			if err != nil {
				cancel(err)
				return
			}
			select {
			case ups <- up:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ups
}

func firstHello(ctx context.Context, ups <-chan *agentapi.Up) (*agentapi.Hello, error) {
	t := time.NewTimer(helloTime)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-t.C:
		return nil, status.Error(codes.DeadlineExceeded, "no hello within "+helloTime.String())
	case up := <-ups:
		if h := up.GetHello(); h != nil {
			return h, nil
		}
		return nil, status.Error(codes.InvalidArgument, "the first message must be hello")
	}
}

// peerAddr is the address that the agent connects from.
func peerAddr(ctx context.Context) (netip.Addr, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}, errors.New("the connection has no peer address")
	}
	at, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the peer address %q is not an IP address: an instance needs one", p.Addr)
	}
	clean, err := mesh.CleanAddr(at.Addr().String(), "1")
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the peer address %s can't be registered: %w", at.Addr(), err)
	}
	return clean.Addr(), nil
}

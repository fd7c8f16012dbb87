package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
	"patchbay/identity/join"
)

const (
	// heartbeat renews the leases of what is registered; the control plane
	// expects one every 5 s (agent.proto).
	heartbeat = 5 * time.Second
	// A stream is tried again after retryFirst, later up to retryMost.
	retryFirst = 200 * time.Millisecond
	retryMost  = 5 * time.Second
	// stood is how long a stream must have lasted for the wait to start anew.
	stood = 10 * time.Second
)

// talk keeps a stream to the control plane until ctx ends. Without one,
// everything stays as it was last said.
func (a *Agent) talk(ctx context.Context) error {
	b := &backoff.ExponentialBackOff{InitialInterval: retryFirst, MaxInterval: retryMost, Multiplier: 2, RandomizationFactor: 0.5}
	b.Reset()
	for {
		began := time.Now()
		err := a.session(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(began) > stood {
			b.Reset()
		}
		a.control.Failed(err)
		a.disconnected(err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(b.NextBackOff()):
		}
	}
}

func (a *Agent) disconnected(err error) {
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Code().String() + ": " + s.Message() + join.Swapped(err)
	}
	if errors.Is(err, io.EOF) {
		text = "the control plane closed the stream"
	}
	a.set(func(s *state) {
		if text != s.lost {
			a.log.Warn("no stream to the control plane; everything stays as it is, and it is tried again", "address", a.control.String(), "error", text)
		}
		s.connected, s.lost = false, text
	})
}

// session is one stream, from its start to its end. The error is never nil.
func (a *Agent) session(ctx context.Context) error {
	conn, err := a.control.Dial(grpc.WithTransportCredentials(a.member.Credentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
	if err != nil {
		return fmt.Errorf("control plane %s: %w", a.control, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := agentapi.NewAgentClient(conn).Connect(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&agentapi.Up{Message: &agentapi.Up_Hello{Hello: a.hello()}}); err != nil {
		_, err = stream.Recv() // the reason
		return err
	}
	answers := make(chan *agentapi.Up)
	go func() {
		for {
			down, err := stream.Recv()
			if err != nil {
				cancel(err)
				return
			}
			if w := down.GetWelcome(); w != nil {
				a.log.InfoContext(ctx, "connected to the control plane", "address", otherEnd(stream.Context()), "control_plane", w.GetControlPlane())
			}
			if q := down.GetAsk(); q != nil {
				a.desk.Answer(ctx, q, answers)
				continue
			}
			if stop := down.GetStop(); stop != nil {
				a.desk.Stop(stop.GetId())
				continue
			}
			a.hear(down)
		}
	}()
	return a.tell(ctx, stream, answers)
}

// otherEnd is the address of the replica that a stream is to.
func otherEnd(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return "unknown"
}

// tell sends what the control plane does not know yet, and health as a
// heartbeat. What is told is always the newest state.
func (a *Agent) tell(ctx context.Context, stream agentapi.Agent_ConnectClient, answers <-chan *agentapi.Up) error {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	var health *agentapi.Health
	var applied *agentapi.NamesApplied
	var traffic *agentapi.Traffic
	drain := false
	for beat := false; ; {
		a.mu.Lock()
		now := a.st
		a.mu.Unlock()
		var ups []*agentapi.Up
		if now.health != nil && (beat || now.health != health) {
			health = now.health
			ups = append(ups, &agentapi.Up{Message: &agentapi.Up_Health{Health: health}})
		}
		if now.applied != nil && now.applied != applied {
			applied = now.applied
			ups = append(ups, &agentapi.Up{Message: &agentapi.Up_NamesApplied{NamesApplied: applied}})
		}
		if now.traffic != nil && now.traffic != traffic {
			traffic = now.traffic
			ups = append(ups, &agentapi.Up{Message: &agentapi.Up_Traffic{Traffic: traffic}})
		}
		if now.draining && !drain {
			drain = true
			ups = append(ups, &agentapi.Up{Message: &agentapi.Up_Drain{Drain: &agentapi.Drain{}}})
		}
		for _, up := range ups {
			if err := stream.Send(up); err != nil {
				<-ctx.Done() // the reader learns the reason
				return context.Cause(ctx)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-a.report:
			beat = false
		case up := <-answers:
			beat = false
			if err := stream.Send(up); err != nil {
				<-ctx.Done()
				return context.Cause(ctx)
			}
		case <-tick.C:
			beat = true
		}
	}
}

// hear takes one message of the control plane.
func (a *Agent) hear(down *agentapi.Down) {
	switch m := down.GetMessage().(type) {
	case *agentapi.Down_Welcome:
		a.set(func(s *state) { s.connected, s.lost = true, "" })
	case *agentapi.Down_Names:
		a.set(func(s *state) { s.names = m.Names })
		a.log.Info("names received", "version", m.Names.GetVersion(), "names", len(m.Names.GetNames()))
		a.poke()
	case *agentapi.Down_Registration:
		a.registered(m.Registration)
	case *agentapi.Down_DrainComplete:
		a.log.Info("drain complete: every caller knows that this task stops", "missing", m.DrainComplete.GetMissing())
		a.set(func(s *state) {
			select {
			case <-a.drained:
			default:
				close(a.drained)
			}
		})
	}
}

func (a *Agent) registered(r *agentapi.Registration) {
	a.set(func(s *state) {
		p := s.port(r.GetPortName())
		p.registered, p.instance, p.problem = r.GetRegistered(), r.GetInstanceId(), r.GetError()
	})
	if r.GetError() != "" {
		a.log.Error("not registered", "port_name", r.GetPortName(), "reason", r.GetError())
		return
	}
	a.log.Info("registered", "port_name", r.GetPortName(), "arn", r.GetServiceArn(), "instance", r.GetInstanceId())
}

// counted takes what Envoy has counted, for the next report.
func (a *Agent) counted(t *agentapi.Traffic) {
	a.set(func(s *state) { s.traffic = t })
	signal(a.report)
}

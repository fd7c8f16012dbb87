package agents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"patchbay/agentapi"
)

const (
	// tapRoom is how many parts may wait for a slow reader; more are lost.
	tapRoom = 64
	// tapGrace is how long after its time the end of a tap is waited for.
	tapGrace = 5 * time.Second
)

// Tap hands requests through the Envoy of a node to each, until the time that
// want names is over, ctx ends, or each fails. The agent stops at once then. It
// is nil if the tap has run its time.
func (s *Server) Tap(ctx context.Context, node string, want *agentapi.Tap, each func(agentapi.Tapped) error) error {
	q := &agentapi.Ask{Question: &agentapi.Ask_Tap{Tap: want}}
	session, err := s.put(node, q)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, want.GetLasts().AsDuration()+tapGrace)
	defer cancel()
	if err := session.tap(ctx, q, each); err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	return nil
}

func (s *session) tap(ctx context.Context, q *agentapi.Ask, each func(agentapi.Tapped) error) error {
	answers := make(chan *agentapi.Answer, tapRoom)
	defer s.wait(q, answers, true)()
	if err := s.send(&agentapi.Down{Message: &agentapi.Down_Ask{Ask: q}}); err != nil {
		return err
	}
	stop := &agentapi.Down{Message: &agentapi.Down_Stop{Stop: &agentapi.Stop{Id: q.GetId()}}}
	for {
		select {
		case a := <-answers:
			if a.GetError() != "" {
				return errors.New(plain(a.GetError(), textMost))
			}
			if !a.GetMore() {
				return nil
			}
			var t agentapi.Tapped
			err := json.Unmarshal(a.GetPart(), &t)
			if err == nil {
				err = each(t)
			}
			if err != nil {
				return errors.Join(err, s.send(stop))
			}
		case <-s.done:
			return errors.New("the agent's stream has ended, and with it the tap")
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), s.send(stop))
		}
	}
}

package agents

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"patchbay/agentapi"
)

// answerMost bounds an answer, packed and unpacked: Envoy's configuration with
// 500 services has a few megabytes.
const answerMost = 128 << 20

// ErrNoAgent is returned for a node that has no stream here.
var ErrNoAgent = errors.New("no agent of this node is connected")

// Ask puts a question to the agent of a node and reads its answer into v. It
// waits as long as ctx lasts, or the stream.
func (s *Server) Ask(ctx context.Context, node string, q *agentapi.Ask, v any) error {
	session, err := s.put(node, q)
	if err != nil {
		return err
	}
	packed, err := session.ask(ctx, q)
	if err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("answer of %s: %w", node, err)
	}
	if err := json.NewDecoder(io.LimitReader(z, answerMost)).Decode(v); err != nil {
		return fmt.Errorf("answer of %s: %w", node, err)
	}
	return nil
}

// put gives a question its id, and finds who is to answer it.
func (s *Server) put(node string, q *agentapi.Ask) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	q.Id = s.asked
	session := s.sessions[node]
	if session == nil {
		return nil, fmt.Errorf("%s: %w", node, ErrNoAgent)
	}
	return session, nil
}

// waiter is one who asked.
type waiter struct {
	answers chan<- *agentapi.Answer
	gone    <-chan struct{} // closed when it no longer waits
	lossy   bool            // it misses what it has no room for: nobody waits for it
}

// wait takes the answers to a question until done is called.
func (s *session) wait(q *agentapi.Ask, answers chan<- *agentapi.Answer, lossy bool) (done func()) {
	gone := make(chan struct{})
	s.update(func(st *state) {
		if st.waiting == nil {
			st.waiting = map[uint64]waiter{}
		}
		st.waiting[q.GetId()] = waiter{answers, gone, lossy}
	})
	return func() {
		s.update(func(st *state) { delete(st.waiting, q.GetId()) })
		close(gone)
	}
}

func (s *session) ask(ctx context.Context, q *agentapi.Ask) ([]byte, error) {
	answers := make(chan *agentapi.Answer)
	defer s.wait(q, answers, false)()
	if err := s.send(&agentapi.Down{Message: &agentapi.Down_Ask{Ask: q}}); err != nil {
		return nil, err
	}
	var packed []byte
	for {
		select {
		case a := <-answers:
			if a.GetError() != "" {
				return nil, errors.New(plain(a.GetError(), textMost))
			}
			if packed = append(packed, a.GetPart()...); len(packed) > answerMost {
				return nil, errors.New("the answer is too long")
			}
			if !a.GetMore() {
				return packed, nil
			}
		case <-s.done:
			return nil, errors.New("the agent's stream has ended")
		case <-ctx.Done():
			return nil, fmt.Errorf("no answer: %w", context.Cause(ctx))
		}
	}
}

// answered hands an answer to whoever waits for it; one that nobody waits for
// any more is dropped.
func (s *session) answered(ctx context.Context, a *agentapi.Answer) {
	var to waiter
	s.update(func(st *state) { to = st.waiting[a.GetId()] })
	if to.answers == nil {
		return
	}
	if to.lossy {
		select {
		case to.answers <- a:
		default:
		}
		return
	}
	select {
	case to.answers <- a:
	case <-to.gone:
	case <-ctx.Done():
	}
}

// Expect announces a probe of an address to those who count: see
// [traffic.Ledger.Expect].
func (s *Server) Expect(address string) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, one := range s.sessions {
		one.mu.Lock()
		if i := slices.IndexFunc(one.ports, func(p *port) bool { return p.ListenerPort == at.Port() }); i >= 0 && one.addr == at.Addr() {
			s.traffic.Expect(id, one.ports[i].Policy.RequiresAt(one.ports[i].PortName))
		}
		one.mu.Unlock()
	}
}

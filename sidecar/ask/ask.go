// Package ask answers an operator's questions to one task: what its Envoy and
// its hosts file hold, how another task's port shakes hands, what a call of its
// application would get.
//
// It owns the answers and their form on the agent stream. But for a tap it
// changes nothing; it sends no private key, and must not know how the agent
// works. Start reading at [Desk.Answer].
package ask

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"patchbay/agentapi"
	"patchbay/diagnose/verify"
	"patchbay/sidecar/envoy"
	"patchbay/sidecar/tap"
)

const (
	// askTime bounds one answer.
	askTime = 20 * time.Second
	// asksMost is how many questions are answered at once, and waitMost how many
	// may wait for that.
	asksMost = 4
	waitMost = 64
	// partMost is the size of one part of an answer: a stream's message may
	// have 4 MiB.
	partMost = 1 << 20
)

// Desk is where questions are answered, some at once. It is safe for
// concurrent use.
type Desk struct {
	admin *envoy.Admin
	hosts string        // file
	node  func() string // id
	slots chan struct{}
	queue chan struct{} // those that are answered, and those that wait
	tap   *tap.Tap      // nil: requests are not shown here

	mu   sync.Mutex
	taps map[uint64]context.CancelFunc // that go on, by question
}

// New answers for the Envoy behind admin and for a hosts file. node is the id
// of the task; without a tap, requests are not shown.
func New(admin *envoy.Admin, hosts string, node func() string, t *tap.Tap) *Desk {
	return &Desk{admin: admin, hosts: hosts, node: node, slots: make(chan struct{}, asksMost), queue: make(chan struct{}, asksMost+waitMost), tap: t, taps: map[uint64]context.CancelFunc{}}
}

// Answer sends the answer to say, beside everything else, as long as ctx
// lasts. It does not wait.
func (d *Desk) Answer(ctx context.Context, q *agentapi.Ask, say chan<- *agentapi.Up) {
	if q.GetTap() != nil {
		d.show(ctx, q, say)
		return
	}
	select {
	case d.queue <- struct{}{}:
	default:
		reply(ctx, say, &agentapi.Answer{Id: q.GetId(), Error: fmt.Sprintf("the agent has %d other questions to answer", asksMost+waitMost)})
		return
	}
	go func() {
		defer func() { <-d.queue }()
		limited, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()
		select {
		case d.slots <- struct{}{}:
			defer func() { <-d.slots }()
		case <-limited.Done():
			return // whoever asked waits no longer
		}
		v, err := d.answer(limited, q)
		if err != nil {
			reply(ctx, say, &agentapi.Answer{Id: q.GetId(), Error: err.Error()})
			return
		}
		send(ctx, say, q.GetId(), v)
	}()
}

func (d *Desk) answer(ctx context.Context, q *agentapi.Ask) (any, error) {
	switch m := q.GetQuestion().(type) {
	case *agentapi.Ask_Look:
		return d.see(ctx, m.Look)
	case *agentapi.Ask_Handshake:
		o := verify.Probe(ctx, m.Handshake.GetAddress(), m.Handshake.GetServerName(), m.Handshake.GetH2())
		o.From = d.node()
		return o, nil
	case *agentapi.Ask_Call:
		return d.call(ctx, m.Call), nil
	}
	return nil, errors.New("this agent does not know the question: it is older than the control plane")
}

// send splits an answer into parts.
func send(ctx context.Context, say chan<- *agentapi.Up, id uint64, v any) {
	plain, err := json.Marshal(v)
	if err == nil && holdsKey(plain) {
		err = errors.New("the answer holds a private key, so it is not sent: report this")
	}
	if err != nil {
		reply(ctx, say, &agentapi.Answer{Id: id, Error: err.Error()})
		return
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err = z.Write(plain)
	if err := errors.Join(err, z.Close()); err != nil {
		reply(ctx, say, &agentapi.Answer{Id: id, Error: err.Error()})
		return
	}
	for {
		part := packed.Next(partMost)
		if !reply(ctx, say, &agentapi.Answer{Id: id, Part: bytes.Clone(part), More: packed.Len() > 0}) || packed.Len() == 0 {
			return
		}
	}
}

func reply(ctx context.Context, say chan<- *agentapi.Up, answer *agentapi.Answer) bool {
	select {
	case say <- &agentapi.Up{Message: &agentapi.Up_Answer{Answer: answer}}:
		return true
	case <-ctx.Done():
		return false
	}
}

// keyMarks are "PRIVATE KEY" as PEM has it, plain and in base64 at each of the
// three offsets.
var keyMarks = [][]byte{[]byte("PRIVATE KEY"), []byte("UFJJVkFURSBLRVk"), []byte("BSSVZBVEUgS0VZ"), []byte("QUklWQVRFIEtFW")}

// holdsKey is the last guard before an answer leaves the task. Envoy redacts
// keys by itself.
func holdsKey(b []byte) bool {
	for _, mark := range keyMarks {
		if bytes.Contains(b, mark) {
			return true
		}
	}
	return false
}

// call makes one call as an application of the task would.
func (d *Desk) call(ctx context.Context, c *agentapi.Call) agentapi.Outcome {
	limit := c.GetTimeout().AsDuration()
	if limit <= 0 || limit > askTime {
		limit = askTime / 2
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	out := agentapi.Outcome{URL: c.GetUrl()}
	if err := d.visit(ctx, &out); err != nil {
		out.Error = err.Error()
	}
	out.Took = time.Since(start)
	return out
}

// discard reads a body to its end without keeping it, and returns its first
// line if it is one of Envoy's own.
func discard(r io.Reader) string {
	head := make([]byte, 512)
	n, _ := io.ReadFull(r, head) //nolint:errcheck // a short body is no error
	_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	for _, words := range []string{"upstream connect error", "no healthy upstream", "upstream request timeout", "no cluster match", "RBAC: access denied", "local_rate_limited"} {
		if bytes.HasPrefix(head[:n], []byte(words)) {
			return string(head[:n])
		}
	}
	return ""
}

package ask

import (
	"context"
	"encoding/json"
	"errors"

	"patchbay/agentapi"
)

// show answers with requests through the task's Envoy, until their time is over
// or [Desk.Stop] is called.
func (d *Desk) show(ctx context.Context, q *agentapi.Ask, say chan<- *agentapi.Up) {
	end := &agentapi.Answer{Id: q.GetId()}
	if d.tap == nil {
		end.Error = "its sidecar was started with --no-tap: it shows no requests"
		go reply(ctx, say, end)
		return
	}
	shown, cancel := context.WithCancel(ctx)
	d.mu.Lock()
	d.taps[q.GetId()] = cancel
	d.mu.Unlock()
	go func() {
		defer d.Stop(q.GetId())
		err := d.tap.Show(shown, q.GetTap(), func(t agentapi.Tapped) {
			part, err := json.Marshal(t)
			if err == nil && holdsKey(part) {
				err = errors.New("what is shown holds a private key, so it is not sent: report this")
			}
			if err != nil {
				end.Error = err.Error()
				cancel()
				return
			}
			reply(shown, say, &agentapi.Answer{Id: q.GetId(), Part: part, More: true})
		})
		if err != nil {
			end.Error = err.Error()
		}
		reply(ctx, say, end)
	}()
}

// Stop ends what goes on as the answer to a question, if anything does.
func (d *Desk) Stop(id uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if cancel := d.taps[id]; cancel != nil {
		cancel()
		delete(d.taps, id)
	}
}

// Package tap lets an operator see requests through sidecars, for a while.
//
// It owns what may be asked for, which sidecars are meant, and how many taps
// there are at once. It must not know how a sidecar sees requests, nor keep one:
// what it is told goes to whoever asked, or nowhere. Start reading at
// [Server.ServeHTTP].
package tap

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"patchbay/admin/api"
	"patchbay/agentapi"
	"patchbay/internal/count"
	"patchbay/internal/suggest"
)

const (
	// MaxTaps is how many operators may look at once.
	MaxTaps = 4
	// MaxNodes is at how many sidecars one of them may.
	MaxNodes = 16
	// writeTime is how long a reader may take for one event.
	writeTime = 10 * time.Second
)

// Agents are those of the sidecars.
type Agents interface {
	// Tap hands requests to each until the time of want is over (nil), or ctx
	// ends. It is called concurrently.
	Tap(ctx context.Context, node string, want *agentapi.Tap, each func(agentapi.Tapped) error) error
}

// Server serves taps. It is safe for concurrent use.
type Server struct {
	Agents Agents
	Status func() api.Status // to find the sidecars
	Log    *slog.Logger

	open atomic.Int32
}

// ServeHTTP shows the requests that the query asks for as server-sent events,
// until its time is over or the caller leaves.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want, err := parse(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	found, err := find(s.Status(), want.Name)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if n := s.open.Add(1); n > MaxTaps {
		s.open.Add(-1)
		refuse(w, http.StatusTooManyRequests, fmt.Sprintf("%s already: that is the most at once; end one of them, or wait (audit.log says who began them)", count.Of(MaxTaps, "tap")))
		return
	}
	defer s.open.Add(-1)
	s.Log.InfoContext(r.Context(), "an operator looks at requests", "sidecars", strings.Join(found.nodes, ","), "lasts", want.For)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	s.stream(r.Context(), &writer{w: w, out: out}, found, want)
	_ = out.SetWriteDeadline(time.Time{}) // the connection may be used again
}

// stream is all sidecars' requests, as they come.
func (s *Server) stream(ctx context.Context, out *writer, f found, want Wanted) {
	out.note(f.text(want))
	q := want.question(f)
	var wg sync.WaitGroup
	failures := make([]error, len(f.nodes))
	for i, node := range f.nodes {
		wg.Go(func() {
			first, sample := true, q.GetSample()
			err := s.Agents.Tap(ctx, node, q, func(t agentapi.Tapped) error {
				if first || t.Sample != sample || t.LeftOut > 0 {
					out.note(aside(node, t, first))
				}
				first, sample = false, t.Sample
				for _, r := range t.Requests {
					out.say(api.TapEvent{At: time.Now(), Request: &api.Tapped{Node: node, Request: r}})
				}
				return out.failed()
			})
			if err != nil && ctx.Err() == nil {
				failures[i] = err
				out.note(err.Error())
			}
		})
	}
	wg.Wait()
	last := api.TapEvent{At: time.Now(), Ended: true}
	if !slices.Contains(failures, nil) {
		last.Error = errors.Join(failures...).Error()
	}
	out.say(last)
}

// aside says how much of a sidecar's requests is seen.
func aside(node string, t agentapi.Tapped, first bool) string {
	share := strconv.FormatFloat(float64(t.Sample)/10_000, 'g', 3, 64) + " %"
	switch {
	case first:
		return node + ": " + share + " of its requests are looked at, as each ends"
	case t.LeftOut > 0:
		return fmt.Sprintf("%s: %s left out, there are more than --rate; %s are looked at now", node, count.Of(int(t.LeftOut), "request"), share)
	}
	return node + ": " + share + " are looked at now"
}

func (w Wanted) question(f found) *agentapi.Tap {
	q := &agentapi.Tap{
		Lasts: durationpb.New(w.For), Sample: uint32(w.Sample * 10_000), Most: w.Rate,
		LeastStatus: w.status[0], MostStatus: w.status[1], Path: w.Path, Direction: w.Direction, Query: w.ShowQuery, Headers: w.Headers,
	}
	if q.Direction == "" && f.service {
		q.Direction = Ingress
	}
	if q.Direction == Both {
		q.Direction = ""
	}
	return q
}

// found are the sidecars that a name means.
type found struct {
	nodes   []string
	more    int  // that are left out
	service bool // it is the name of a service
}

func (f found) text(w Wanted) string {
	text := "requests through " + count.Of(len(f.nodes), "sidecar")
	if f.service {
		text = "requests to " + w.Name + ", seen by " + count.Of(len(f.nodes), "sidecar") + " that offer it"
		if len(f.nodes) == 1 {
			text = "requests to " + w.Name + ", seen by the sidecar that offers it"
		}
	}
	if f.more > 0 {
		text += fmt.Sprintf(" (of %d; %d is the most)", len(f.nodes)+f.more, MaxNodes)
	}
	return text + ", for " + w.For.String()
}

// find takes the name of a service, a node id, or the name of a workload or task.
func find(st api.Status, name string) (found, error) {
	out := found{}
	var names, parts, silent []string
	for _, s := range st.Services {
		names = append(names, s.Name)
		out.service = out.service || s.Name == name
	}
	for _, s := range st.Sidecars {
		names, parts = append(names, s.Node), append(parts, strings.Split(s.Node, "/")[1:]...)
		meant := strings.Contains("/"+s.Node+"/", "/"+name+"/")
		if out.service {
			meant = offers(s, name)
		}
		switch {
		case !meant:
		case s.Agent == nil:
			silent = append(silent, s.Node)
		default:
			out.nodes = append(out.nodes, s.Node)
		}
	}
	if n := len(out.nodes); n > MaxNodes {
		out.nodes, out.more = out.nodes[:MaxNodes], n-MaxNodes
	}
	switch near := suggest.Near(name, slices.Concat(names, parts)); {
	case len(out.nodes) > 0:
		return out, nil
	case len(silent) > 0:
		return out, fmt.Errorf("no agent of %s is connected to this control plane, so nobody can show its requests; `patchbay status` says which replica serves it", strings.Join(silent, ", "))
	case out.service:
		return out, fmt.Errorf("no sidecar with an agent offers %s: look at a caller's instead, such as `patchbay tap NODE --direction egress`", name)
	case near != "":
		return out, fmt.Errorf("no sidecar and no service is called %q; did you mean %s?", name, near)
	}
	return out, fmt.Errorf("no sidecar and no service is called %q; there are: %s", name, cmp.Or(strings.Join(names, ", "), "none"))
}

func offers(s api.Sidecar, service string) bool {
	for _, p := range s.Ports {
		if p.Service == service {
			return true
		}
	}
	return false
}

// writer writes events for several sidecars at once.
type writer struct {
	mu  sync.Mutex
	w   http.ResponseWriter
	out *http.ResponseController
	err error // the first; nothing is written after it
}

func (w *writer) note(text string) { w.say(api.TapEvent{At: time.Now(), Note: text}) }

func (w *writer) say(e api.TapEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	b, err := json.Marshal(e)
	if err == nil {
		err = w.out.SetWriteDeadline(time.Now().Add(writeTime))
	}
	if err == nil {
		_, err = fmt.Fprintf(w.w, "event: tap\ndata: %s\n\n", b)
	}
	w.err = cmp.Or(err, w.out.Flush())
}

func (w *writer) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return errors.Join(errors.New("nobody reads"), w.err)
	}
	return nil
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": text}) //nolint:errcheck // the caller has gone
}

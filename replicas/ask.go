package replicas

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"patchbay/mesh"
)

const (
	// askLimit bounds a question; an answer is bounded by maxLine.
	askLimit = 64 << 10
	// usedWithin is how long the answer about a proof may take: a task waits.
	usedWithin = 2 * time.Second
)

// hearing are the names of the others that are heard.
func (r *Replicas) hearing() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, p := range r.listed {
		if p.heard {
			names = append(names, name)
		}
	}
	return names
}

// ask puts a question to one other replica.
func ask[Answer any](ctx context.Context, r *Replicas, name, path string, question any) (a Answer, err error) {
	body, err := json.Marshal(question)
	if err != nil {
		return a, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+name+path, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	client := r.client(name)
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxLine)).Decode(&a); err != nil {
		return a, fmt.Errorf("%s: %w", resp.Status, err)
	}
	return a, nil
}

// answer reads a question and writes what is made of it.
func answer[Question, Answer any](w http.ResponseWriter, req *http.Request, of func(Question) Answer) {
	var q Question
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, askLimit)).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(of(q)) // it may have gone
}

// Barrier knows what the subscribers of one replica have acknowledged.
type Barrier interface {
	// Removed waits until every connected subscriber of the service has
	// acknowledged endpoints without addr, or ctx ends: then it returns the
	// ids of the nodes that have not.
	Removed(ctx context.Context, service mesh.ServiceName, addr netip.AddrPort) (missing []string, err error)
}

type removal struct {
	Namespace string         `json:"namespace"`
	Service   string         `json:"service"`
	Addr      netip.AddrPort `json:"addr"`
	Within    time.Duration  `json:"within"`
}

type outcome struct {
	Missing []string `json:"missing"`
	Error   string   `json:"error,omitempty"`
}

// removed waits for our own subscribers on behalf of another replica.
func (r *Replicas) removed(w http.ResponseWriter, req *http.Request) {
	answer(w, req, func(q removal) outcome {
		ctx, stop := context.WithTimeout(req.Context(), min(max(q.Within, 0), time.Minute))
		defer stop()
		missing, err := r.o.Barrier.Removed(ctx, mesh.ServiceName{Namespace: q.Namespace, DiscoveryName: q.Service}, q.Addr)
		a := outcome{Missing: slices.Clone(missing)}
		if err != nil {
			a.Error = err.Error()
		}
		return a
	})
}

// Removed is [Barrier] for the subscribers of all replicas that are heard. One
// that fails to answer is named in the error; its subscribers are not known.
func (r *Replicas) Removed(ctx context.Context, s mesh.ServiceName, addr netip.AddrPort) ([]string, error) {
	var (
		mu   sync.Mutex
		all  = map[string]bool{}
		errs []error
		wg   sync.WaitGroup
	)
	note := func(missing []string, err error) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range missing {
			all[m] = true
		}
		errs = append(errs, err)
	}
	wg.Go(func() { note(r.o.Barrier.Removed(ctx, s, addr)) })
	for _, name := range r.hearing() {
		wg.Go(func() { note(r.removedAt(ctx, name, s, addr)) })
	}
	wg.Wait()
	missing := slices.Sorted(maps.Keys(all))
	return missing, errors.Join(errs...)
}

// removedAt asks one other replica. It is given a little less time than there
// is, so that its answer arrives.
func (r *Replicas) removedAt(ctx context.Context, name string, s mesh.ServiceName, addr netip.AddrPort) ([]string, error) {
	within := time.Minute
	if end, ok := ctx.Deadline(); ok {
		within = time.Until(end) * 9 / 10
	}
	a, err := ask[outcome](ctx, r, name, "/v1/removed", removal{s.Namespace, s.DiscoveryName, addr, within})
	if err != nil {
		return nil, fmt.Errorf("ask replica %s for its sidecars: %w", name, err)
	}
	if a.Error != "" {
		err = fmt.Errorf("replica %s: %s", name, a.Error)
	}
	return a.Missing, err
}

type proof struct {
	ID string `json:"id"`
}

type taken struct {
	Used bool `json:"used"`
}

// used says whether a proof was taken here.
func (r *Replicas) used(w http.ResponseWriter, req *http.Request) {
	answer(w, req, func(p proof) taken { return taken{r.o.Used != nil && r.o.Used(p.ID)} })
}

// Used reports whether another replica has taken a proof. Those that are not
// heard, or do not answer in time, do not count.
func (r *Replicas) Used(ctx context.Context, id string) bool {
	ctx, stop := context.WithTimeout(ctx, usedWithin)
	defer stop()
	names := r.hearing()
	answers := make(chan bool, len(names))
	for _, name := range names {
		go func() {
			a, err := ask[taken](ctx, r, name, "/v1/used", proof{id})
			if err != nil {
				r.o.Log.Warn("a replica does not say whether it has taken a proof", "replica", name, "error", err)
			}
			answers <- a.Used
		}()
	}
	used := false
	for range names {
		used = <-answers || used
	}
	return used
}

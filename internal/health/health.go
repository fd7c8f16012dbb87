// Package health is how a process says what is wrong with it, and since when:
// the answers of /healthz and /readyz.
//
// It owns their form. It must not know what can be wrong. Start reading at
// [Handler].
package health

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Problem is one thing that is not as it should be.
type Problem struct {
	What   string    `json:"what"` // such as "namespace demo"; each at most once
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// String is what and reason.
func (p Problem) String() string { return p.What + ": " + p.Reason }

// Texts are the problems, each in one line; never nil.
func Texts(all []Problem) []string {
	out := []string{}
	for _, p := range all {
		out = append(out, p.String())
	}
	return out
}

// Book remembers since when each problem has been there, as far as it was told.
// The zero value is ready; it is safe for concurrent use.
type Book struct {
	mu    sync.Mutex
	since map[string]time.Time // by Problem.What
}

// Since fills in the Since of problems that have none: when they were first
// noted without a break. Problems that are no longer there are forgotten.
func (b *Book) Since(now time.Time, problems []Problem) []Problem {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := map[string]time.Time{}
	for i, p := range problems {
		if p.Since.IsZero() {
			if p.Since = now; !b.since[p.What].IsZero() {
				p.Since = b.since[p.What]
			}
		}
		problems[i].Since, next[p.What] = p.Since.UTC(), p.Since
	}
	b.since = next
	return problems
}

// Handler answers 200 with {"WORD": true} while there are no problems, and 503
// with them. Who accepts text/plain gets a line for each.
func Handler(word string, problems func() []Problem) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		found := problems()
		status := http.StatusOK
		if len(found) > 0 {
			status = http.StatusServiceUnavailable
		}
		w.Header().Set("Cache-Control", "no-store")
		if strings.HasPrefix(r.Header.Get("Accept"), "text/plain") {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(status)
			if len(found) == 0 {
				fmt.Fprintln(w, word)
			}
			for _, p := range found {
				fmt.Fprintf(w, "%s (since %s)\n", p, p.Since.Format(time.RFC3339))
			}
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(map[string]any{word: len(found) == 0, "reasons": Texts(found), "problems": append([]Problem{}, found...)}) // the client may have left
	})
}

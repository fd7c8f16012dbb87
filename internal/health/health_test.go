package health

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// TestSince: a problem keeps its beginning while it lasts, whatever its reason,
// and begins anew when it comes back.
func TestSince(t *testing.T) {
	var b Book
	since := func(minute int, what ...string) (out []int) {
		var all []Problem
		for i, w := range what {
			all = append(all, Problem{What: w, Reason: strings.Repeat("x", minute+i)})
		}
		for _, p := range b.Since(noon.Add(time.Duration(minute)*time.Minute), all) {
			out = append(out, int(p.Since.Sub(noon).Minutes()))
		}
		return out
	}
	for _, c := range []struct {
		minute int
		what   []string
		want   []int
	}{
		{1, []string{"a"}, []int{1}}, {2, []string{"b", "a"}, []int{2, 1}}, {3, []string{"b"}, []int{2}}, {4, []string{"a", "b"}, []int{4, 2}}, {5, nil, nil}, {6, []string{"b"}, []int{6}},
	} {
		if got := since(c.minute, c.what...); !slices.Equal(got, c.want) {
			t.Errorf("minute %d: %v, want %v", c.minute, got, c.want)
		}
	}
	known := Problem{What: "c", Since: noon}
	if got := b.Since(noon.Add(time.Hour), []Problem{known}); !got[0].Since.Equal(noon) {
		t.Errorf("one that is known: %v", got)
	}
}

// TestHandler: programs and people read the same.
func TestHandler(t *testing.T) {
	var problems []Problem
	ask := func(accept string) (int, string) {
		r, w := httptest.NewRequestWithContext(t.Context(), "GET", "/readyz", nil), httptest.NewRecorder()
		r.Header.Set("Accept", accept)
		Handler("ready", func() []Problem { return problems }).ServeHTTP(w, r)
		return w.Code, strings.Join(strings.Fields(w.Body.String()), " ")
	}
	if code, body := ask("*/*"); code != 200 || body != `{ "problems": [], "ready": true, "reasons": [] }` {
		t.Error(code, body)
	}
	if code, body := ask("text/plain"); code != 200 || body != "ready" {
		t.Error(code, body)
	}
	problems = []Problem{{"namespace demo", "not read yet", noon}}
	if code, body := ask(""); code != 503 || body != `{ "problems": [ { "what": "namespace demo", "reason": "not read yet", "since": "2026-01-02T12:00:00Z" } ], "ready": false, "reasons": [ "namespace demo: not read yet" ] }` {
		t.Error(code, body)
	}
	if code, body := ask("text/plain"); code != 503 || body != "namespace demo: not read yet (since 2026-01-02T12:00:00Z)" {
		t.Error(code, body)
	}
}

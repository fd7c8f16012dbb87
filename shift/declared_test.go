package shift

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patchbay/mesh"
	"patchbay/mesh/policy"
)

func declares(t *testing.T, text string) *policy.Policy {
	t.Helper()
	d := &policy.Deployment{}
	if err := json.Unmarshal([]byte(text), d); err != nil || d.Problems() != nil {
		t.Fatalf("%s: %v, %v", text, err, d.Problems())
	}
	return &policy.Policy{Deployment: d}
}

func TestDeclaredSteps(t *testing.T) {
	for text, want := range map[string]struct {
		weights []uint32
		every   time.Duration
	}{
		`{"strategy": "ROLLING"}`:    {},
		`{"strategy": "BLUE_GREEN"}`: {[]uint32{1000}, 0},
		`{"strategy": "CANARY"}`:     {[]uint32{50, 1000}, 10 * time.Minute},
		`{"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 0.1, "canaryBakeTimeInMinutes": 0}}`: {[]uint32{1, 1000}, time.Second},
		`{"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 100}}`:                               {[]uint32{1000}, 0},
		`{"strategy": "LINEAR"}`: {[]uint32{100, 200, 300, 400, 500, 600, 700, 800, 900, 1000}, 6 * time.Minute},
		`{"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 33.3, "stepBakeTimeInMinutes": 1440}}`: {[]uint32{333, 666, 999, 1000}, 24 * time.Hour},
	} {
		weights, every := Declared(&mesh.Service{Policy: declares(t, text)})
		if !slices.Equal(weights, want.weights) || len(weights) > 1 && every != want.every {
			t.Errorf("%s: %v every %v", text, weights, every)
		}
	}
	if weights, _ := Declared(&mesh.Service{Policy: declares(t, `{"strategy": "CANARY"}`), Foreign: true}); weights != nil {
		t.Error("a service of somebody else is shifted")
	}
}

// come adds endpoints of a revision that appears now.
func (m *mirror) come(revision string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range n {
		m.births = append(m.births, mesh.Birth{Revision: revision, At: time.Now()})
	}
	m.show()
}

// A deployment of ECS's strategy CANARY, from the first task on, with two
// control planes: nobody gives an order.
func TestADeclaredStrategyMovesCallsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMirror()
		m.policy = declares(t, `{"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 20, "canaryBakeTimeInMinutes": 5}}`)
		one, two := m.run(t, nil), m.run(t, nil)
		after(time.Minute)
		share := func(revision string) uint32 {
			t.Helper()
			synctest.Wait()
			d := m.stores[0].Snapshot().Service(backend).Deployment
			if d == nil {
				t.Fatal("nothing is divided")
			}
			for _, s := range d.Shares {
				if s.Revision == revision {
					return s.Weight
				}
			}
			return 0
		}
		waits := func(want Waiting) {
			t.Helper()
			if w := Waits(m.stores[0].Snapshot().Service(backend)); w == nil || *w != want {
				t.Errorf("%+v, want %+v", w, want)
			}
		}
		m.come("blue", 2)
		if share("blue") != 1000 || m.writes != 1 {
			t.Errorf("blue does not hold production: %d, %d writes", share("blue"), m.writes)
		}
		after(time.Hour)
		m.come("green", 1)
		if share("green") != 0 {
			t.Error("the first task of green gets calls")
		}
		waits(Waiting{Revision: "green", Have: 1, Need: 2})
		m.mu.Lock()
		m.sick = "green"
		m.mu.Unlock()
		m.come("green", 1)
		waits(Waiting{Revision: "green", Have: 0, Need: 2})
		m.mu.Lock()
		m.sick = ""
		m.mu.Unlock()
		m.come("green", 0)
		if share("green") != 200 || m.writes != 2 {
			t.Errorf("green has %d after %d writes", share("green"), m.writes)
		}
		after(time.Minute)
		m.come("red", 2)
		waits(Waiting{Revision: "red", Have: 2, Need: 2, Busy: true})
		after(4*time.Minute + time.Second)
		if share("red") != 200 || share("green") != 800 { // green was done, and red's turn came
			t.Errorf("red has %d, green %d", share("red"), share("green"))
		}
		// Called off: it is not tried again, nor is what was there before.
		m.order(t, "abort=enough")
		after(24 * time.Hour)
		if share("green") != 1000 || Waits(m.stores[0].Snapshot().Service(backend)) != nil {
			t.Errorf("green has %d", share("green"))
		}
		m.order(t, "to=blue")
		after(24 * time.Hour)
		if share("blue") != 1000 {
			t.Errorf("an operator's order is undone: blue has %d", share("blue"))
		}
		one()
		two()
	})
}

// Without a word, an order is by the declared strategy; two revisions that were
// never told apart are left alone.
func TestAnOrderAsDeclared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMirror("blue", "green")
		m.policy = declares(t, `{"strategy": "BLUE_GREEN"}`)
		stop := m.run(t, nil)
		after(time.Hour)
		if m.writes != 0 {
			t.Errorf("%d writes", m.writes)
		}
		stop()
	})
	synctest.Test(t, func(t *testing.T) {
		m := newMirror("blue", "green")
		m.policy = declares(t, `{"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 50}}`)
		m.replica()
		if sh := m.order(t, "rollback=1"); sh.To != "green" || sh.From != "blue" || !slices.Equal(sh.Weights, []uint32{500, 1000}) || sh.Rollback != 10 {
			t.Errorf("%+v", sh)
		}
		_, err := Orders{m.stores[0], m}.Do(t.Context(), map[string][]string{"service": {"backend.demo"}})
		if err == nil || !strings.Contains(err.Error(), "the newest revision, green, has its calls already") {
			t.Error(err)
		}
		if sh := m.order(t, "to=blue"); !slices.Equal(sh.Weights, []uint32{1000}) { // back, at once
			t.Errorf("%+v", sh)
		}
	})
}

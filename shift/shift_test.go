package shift

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/mesh/record"
)

var backend = mesh.ServiceName{Namespace: "demo", DiscoveryName: "backend"}

// mirror is a registry of one service, of which stores see every change.
type mirror struct {
	mu     sync.Mutex
	attrs  map[string]string
	err    error
	stores []*mesh.Store
	births []mesh.Birth
	policy *policy.Policy
	sick   string // a revision whose endpoints are unhealthy
	writes int
}

func newMirror(revisions ...string) *mirror {
	m := &mirror{attrs: map[string]string{}}
	for i, r := range revisions {
		m.births = append(m.births, mesh.Birth{Revision: r, At: time.Unix(int64(i), 0)})
	}
	return m
}

// replica is a store that follows the registry.
func (m *mirror) replica() *mesh.Store {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := mesh.NewStore()
	m.stores = append(m.stores, s)
	m.show()
	return s
}

func (m *mirror) show() {
	v := &mesh.Service{Name: backend, Protocol: mesh.HTTP, Policy: m.policy, Newest: mesh.Newest(m.births)}
	for i, b := range m.births {
		e := mesh.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80), Revision: b.Revision, Weight: 1}
		if b.Revision == m.sick {
			e.Health = mesh.Unhealthy
		}
		v.Endpoints = append(v.Endpoints, e)
	}
	if sh := record.ParseShift(m.attrs); sh != nil {
		v.Deployment = mesh.Deploy(*sh, m.births)
		v.Deployment.Spare(v.Endpoints)
	}
	for _, s := range m.stores {
		s.SetServices("demo", []*mesh.Service{v})
	}
}

func (m *mirror) Amend(_ context.Context, _ mesh.ServiceName, change func(map[string]string) (record.Change, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	c, err := change(m.attrs)
	if err != nil || c.Empty() {
		return err
	}
	m.writes++
	m.attrs = c.Apply(m.attrs)
	m.show()
	return nil
}

func (m *mirror) shift() mesh.Shift {
	m.mu.Lock()
	defer m.mu.Unlock()
	if sh := record.ParseShift(m.attrs); sh != nil {
		return *sh
	}
	return mesh.Shift{}
}

func (m *mirror) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *mirror) order(t *testing.T, text string) mesh.Shift {
	t.Helper()
	v, err := url.ParseQuery("service=backend.demo&" + text)
	if err != nil {
		t.Fatal(err)
	}
	sh, err := Orders{m.stores[0], m}.Do(t.Context(), v)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if sh == nil {
		return mesh.Shift{}
	}
	return *sh
}

// run starts a control plane's shifter; the result ends it.
func (m *mirror) run(t *testing.T, traffic Traffic) (stop func()) {
	t.Helper()
	if traffic == nil {
		traffic = func(mesh.ServiceName, string) (uint64, uint64) { return 0, 0 }
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	s := New(m.replica(), m, traffic, slog.New(slog.DiscardHandler))
	go func() { defer close(done); s.Run(ctx) }()
	return func() { cancel(); <-done }
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Steps come when they are due, each once, with two control planes and through
// a restart of both.
func TestStepsComeWhenTheyAreDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMirror("blue", "green")
		one, two := m.run(t, nil), m.run(t, nil)
		m.order(t, "to=green&linear=40&every=1m")
		want := func(weight uint32) {
			t.Helper()
			if sh := m.shift(); sh.Weight() != weight || sh.From != "blue" {
				t.Errorf("%d from %q; want %d from blue", sh.Weight(), sh.From, weight)
			}
		}
		after(59 * time.Second)
		want(400)
		after(2 * time.Second)
		want(800)
		one()
		two()
		after(10 * time.Minute)
		want(800) // nobody was there
		three := m.run(t, nil)
		synctest.Wait()
		want(1000) // one step, although ten were due
		after(time.Hour)
		if m.writes != 3 || !m.shift().Done() {
			t.Errorf("%d writes; want one for the order and one for each step", m.writes)
		}
		three()
	})
}

func TestFailedRequestsRollBack(t *testing.T) {
	for _, c := range []struct {
		name, order      string
		requests, failed uint64 // in each second
		back             bool
	}{
		{"more than allowed", "canary=5&bake=5m&rollback=1", 100, 2, true},
		{"as many as allowed", "canary=5&bake=5m&rollback=1", 100, 1, false},
		{"too few to judge in ten seconds", "canary=5&bake=10s&rollback=1", 1, 1, false},
		{"nobody asked", "canary=5&bake=5m", 100, 100, false},
		{"by hand", "weight=10&rollback=0.5", 1000, 6, true},
		{"everything at once", "linear=100&every=1m&rollback=1", 100, 50, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMirror("blue", "green")
				start := time.Now()
				stop := m.run(t, func(_ mesh.ServiceName, revision string) (uint64, uint64) {
					if revision != "green" {
						t.Errorf("asked for %s", revision)
					}
					n := uint64(time.Since(start) / time.Second)
					return 5000 + n*c.requests, 4000 + n*c.failed // what was before does not count
				})
				m.order(t, "to=green&"+c.order)
				after(30 * time.Second)
				sh := m.shift()
				if back := sh.Ended != ""; back != c.back || back && (sh.Weight() != 0 || !strings.Contains(sh.Ended, "requests to green failed")) {
					t.Errorf("%d tenths of a percent, %q", sh.Weight(), sh.Ended)
				}
				stop()
			})
		})
	}
}

// A registry that fails is asked again, and nothing is skipped.
func TestARegistryThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMirror("blue", "green")
		stop := m.run(t, nil)
		m.order(t, "to=green&canary=5&bake=1m")
		m.fail(errors.New("away"))
		after(3 * time.Minute)
		if w := m.shift().Weight(); w != 50 {
			t.Errorf("%d", w)
		}
		m.fail(nil)
		after(10 * time.Second)
		if w := m.shift().Weight(); w != 1000 {
			t.Errorf("%d after the registry is back", w)
		}
		stop()
	})
}

func TestOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMirror("blue", "green")
		m.replica()
		if sh := m.order(t, "to=green&weight=0.5%25"); !slices.Equal(sh.Weights, []uint32{5}) || sh.From != "blue" {
			t.Errorf("%+v", sh)
		}
		if sh := m.order(t, "to=green"); !slices.Equal(sh.Weights, []uint32{1000}) || sh.From != "blue" {
			t.Errorf("%+v", sh)
		}
		// What is in production now is green, and going back is as going there.
		if sh := m.order(t, "to=blue&canary=10"); !slices.Equal(sh.Weights, []uint32{100, 1000}) || sh.From != "green" || sh.Every != 10*time.Minute {
			t.Errorf("%+v", sh)
		}
		if sh := m.order(t, "abort=enough"); sh.Ended != "enough" || m.shift().Weight() != 0 {
			t.Errorf("%+v", sh)
		}
		if m.order(t, "end=yes"); len(m.attrs) != 0 {
			t.Errorf("left: %v", m.attrs)
		}
		m.order(t, "end=again")
		single := newMirror("blue")
		single.replica()
		// The only one: it holds production, and the next gets nothing by itself.
		if sh := single.order(t, "to=blue"); sh.From != "" || sh.Weight() != 1000 {
			t.Errorf("%+v", sh)
		}
	})
}

func TestWrongOrders(t *testing.T) {
	m := newMirror("blue", "green", "red")
	m.sick = "red"
	m.replica()
	for text, want := range map[string]string{
		"service=web.demo&to=green":                                 `service "web.demo" is not in the mesh; there are: backend.demo`,
		"service=backend.demo":                                      "to: is missing; allowed: a revision of backend.demo: blue (1 endpoint), green (1 endpoint), red (1 endpoint, none healthy)",
		"service=backend.demo&to=gren":                              `to: "gren" has no endpoint; backend.demo has: blue (1 endpoint), green (1 endpoint), red (1 endpoint, none healthy)`,
		"service=backend.demo&to=gren&weight=0":                     `to: "gren" has no endpoint; backend.demo has: blue`,
		"service=backend.demo&to=red&from=blue&weight=0":            `to: "red" has no healthy endpoint; backend.demo has: blue`,
		"service=backend.demo&to=green&from=blu&weight=5":           `from: "blu" has no endpoint; backend.demo has: blue`, // else green would have everything
		"service=backend.demo&to=green":                             "from: is missing, and blue, red are all in production; allowed: one of them",
		"service=backend.demo&to=green&from=green":                  `from and to are both "green"`,
		"service=backend.demo&to=green&from=blue&weight=101":        `weight: "101"; allowed: 0 to 100 percent`,
		"service=backend.demo&to=green&from=blue&weight=NaN":        `weight: "NaN"; allowed`,
		"service=backend.demo&to=green&from=blue&weight=0.55":       `weight: "0.55"; allowed`,
		"service=backend.demo&to=green&from=blue&linear=2":          `linear: "2"; allowed: 3 to 100`,
		"service=backend.demo&to=green&from=blue&canary=5&bake=1ms": `bake: "1ms"; allowed: 1s to 24h`,
		"service=backend.demo&to=green&from=blue&weight=5&bake=1m":  "bake: allowed: with canary",
		"service=backend.demo&to=green&from=blue&canary=5&linear=5": "canary, linear: allowed: one of them",
		"service=backend.demo&to=green&from=blue&rollback=-1":       `rollback: "-1"; allowed`,
		"service=backend.demo&abort=x":                              "no shift of backend.demo is under way",
		"service=backend.demo&too=green":                            "too: is not known; allowed: service, to",
	} {
		v, err := url.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Orders{m.stores[0], m}.Do(t.Context(), v)
		if _, wrong := errors.AsType[*Wrong](err); !wrong || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
	if m.writes != 0 {
		t.Errorf("%d writes", m.writes)
	}
}

package shift

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"patchbay/mesh"
	"patchbay/mesh/record"
)

// distant is a mirror whose answers take time, as those of Cloud Map do: what
// was read may be old when something is written, by up to record.WriteTime.
type distant struct {
	*mirror
	knew map[string]string // order → the one that it took the place of
}

func (d *distant) Amend(ctx context.Context, _ mesh.ServiceName, change func(map[string]string) (record.Change, error)) error {
	for ctx.Err() == nil {
		within := rand.N(record.WriteTime)
		d.mu.Lock()
		attrs := maps.Clone(d.attrs)
		d.mu.Unlock()
		time.Sleep(within / 4)
		c, err := change(attrs)
		if err != nil || c.Empty() {
			return err
		}
		time.Sleep(within - within/4)
		d.mu.Lock()
		before := record.ParseShift(attrs)
		d.attrs = c.Apply(d.attrs)
		if now := record.ParseShift(d.attrs); now != nil && c.Put[record.AttrShift] != "" {
			d.knew[now.ID] = ""
			if before != nil {
				d.knew[now.ID] = before.ID
			}
		}
		d.show()
		d.mu.Unlock()
	}
	return ctx.Err()
}

// Whatever is ordered at several control planes at once: an order whose giver
// was told that it holds does hold, or was followed by one that knew of it. Who
// was told otherwise was told what holds.
func TestOrdersAtOnce(t *testing.T) {
	var kept, told int
	for range 500 {
		synctest.Test(t, func(t *testing.T) {
			d := &distant{newMirror("blue", "green", "red"), map[string]string{}}
			done := map[string]error{}
			var mu sync.Mutex
			var wg sync.WaitGroup
			for i := range 3 {
				o := Orders{d.replica(), d}
				wg.Go(func() {
					for n := range 2 {
						time.Sleep(rand.N(2 * record.WriteTime))
						to := []string{"blue", "green", "red"}[rand.N(3)]
						from := map[string]string{"blue": "green", "green": "red", "red": "blue"}[to]
						sh, err := o.Do(t.Context(), url.Values{"service": {"backend.demo"}, "to": {to}, "from": {from}, "weight": {fmt.Sprint(10*i + n)}})
						mu.Lock()
						done[sh.ID] = err
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			last, followed := d.shift().ID, map[string]bool{}
			for _, before := range d.knew {
				followed[before] = true
			}
			for id, err := range done {
				switch _, lost := errors.AsType[*Lost](err); {
				case err == nil && id != last && !followed[id]:
					t.Errorf("%s was said to hold; what holds is %s: %v, %v", id, last, d.knew, done)
				case err == nil:
					kept++
				case !lost || !strings.Contains(err.Error(), "holds: ") || id == last:
					t.Errorf("%s: %v", id, err)
				default:
					told++
				}
			}
		})
	}
	if kept < 100 || told < 100 {
		t.Errorf("%d held, %d were lost: nothing was raced", kept, told)
	}
}

// Aborts and ends are orders, too: through a control plane that has not read
// the newest order, they do nothing and say so.
func TestAnOrderThroughAControlPlaneThatIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMirror("blue", "green")
		m.replica()
		behind := Orders{m.replica(), m}
		m.stores = m.stores[:1] // it hears no more
		ask := func(text, want string) {
			t.Helper()
			v, err := url.ParseQuery("service=backend.demo&" + text)
			if err != nil {
				t.Fatal(err)
			}
			_, err = behind.Do(t.Context(), v)
			if _, lost := errors.AsType[*Lost](err); !lost || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %s", text, err, want)
			}
		}
		m.order(t, "to=green&canary=5")
		for _, text := range []string{"abort=x", "end=yes", "to=blue&from=green", "to=green&weight=3"} {
			ask(text, "and holds: from blue to green, 5 %, 100 %, given at ")
		}
		m.order(t, "abort=enough")
		ask("abort=x", "blue has all calls again (enough). Yours does not: look at `patchbay shift backend.demo --status`")
		m.order(t, "end=yes")
		m.order(t, "to=blue&weight=100&from=green")
		ask("end=yes", "from green to blue")
		if w := m.shift().Weight(); w != 1000 {
			t.Errorf("%d", w)
		}
	})
}

// A revision whose endpoints are gone, or are all unhealthy, is moved to by no
// step and no roll-back; the step that waited for it lasts as long as others.
func TestNoStepToARevisionWithoutEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMirror("blue", "green")
		failing := uint64(0)
		stop := m.run(t, func(mesh.ServiceName, string) (uint64, uint64) { failing += 50; return failing, failing })
		sick := func(revision string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.sick = revision
			m.show()
		}
		weight := func(want uint32) {
			t.Helper()
			synctest.Wait()
			if w := m.shift().Weight(); w != want {
				t.Errorf("green has %d, want %d", w, want)
			}
		}
		m.order(t, "to=green&linear=40&every=1m")
		sick("green")
		after(time.Hour)
		weight(400)
		if d := Divided(m.stores[0].Snapshot().Service(backend)); d.Held != "green has no endpoint that can be called" || d.Spared != "green has no endpoint that can be called, and blue has its share" || !d.Next.IsZero() {
			t.Errorf("%+v", d)
		}
		sick("")
		after(55 * time.Second)
		weight(400)
		after(10 * time.Second)
		weight(800)
		m.order(t, "to=green&from=blue&weight=50")
		sick("blue")
		if _, err := (Orders{m.stores[0], m}).Do(t.Context(), url.Values{"service": {"backend.demo"}, "abort": {"x"}}); err == nil || !strings.Contains(err.Error(), `abort: "blue" has no healthy endpoint; backend.demo has: blue (1 endpoint, none healthy), green (1 endpoint)`) {
			t.Errorf("%v", err)
		}
		sick("")
		m.order(t, "to=green&from=blue&weight=50&rollback=1")
		sick("blue")
		after(time.Minute)
		weight(500)
		if d := Divided(m.stores[0].Snapshot().Service(backend)); d.Stuck != "blue has no endpoint that can be called" || d.Spared != "blue has no endpoint that can be called, and green has its share" || d.Percent["green"] != 100 {
			t.Errorf("%+v", d)
		}
		sick("")
		after(time.Minute)
		weight(0)
		stop()
	})
}

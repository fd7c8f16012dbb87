package discovery

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"

	"patchbay/discovery/cloud"
	"patchbay/discovery/cost"
	"patchbay/mesh"
)

// pair shares the polling of two replicas: each asks about every other service.
type pair struct {
	mu    *sync.Mutex
	mine  int
	marks [2]map[mesh.ServiceName]uint64
	other func() *CloudMap
}

func (p *pair) Complete() bool { return true }

func (p *pair) Elsewhere(s mesh.ServiceName) (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	mark, told := p.marks[1-p.mine][s]
	return mark, told && int(s.DiscoveryName[len(s.DiscoveryName)-1])%2 != p.mine
}

func (p *pair) Saw(s mesh.ServiceName, mark uint64) {
	p.mu.Lock()
	news := p.marks[p.mine][s] != mark
	p.marks[p.mine][s] = mark
	p.mu.Unlock()
	if other := p.other(); news && other != nil {
		go other.Told(s, mark)
	}
}

// scenario is an hour of a hundred services and one change a minute.
type scenario struct {
	foreign, checked bool
	replicas         int
}

// hour returns the dollars of a month, and the longest time until a replica
// showed a change.
func (c scenario) hour(t *testing.T) (dollars float64, slowest time.Duration) {
	const length = time.Hour
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		for i := range 100 {
			s := m.own(t, fmt.Sprintf("s%d", i), plain(mesh.HTTP, fmt.Sprintf("s%d", i)), 2)
			s.checked = c.checked
			if c.foreign {
				s.description, s.attrs, s.instances = "", nil, map[string]memoryInstance{}
				s.add(0)
				s.add(1)
			}
		}
		var worlds []*world
		var cms [2]atomic.Pointer[CloudMap]
		mu, marks := &sync.Mutex{}, [2]map[mesh.ServiceName]uint64{{}, {}}
		for i := range c.replicas {
			worlds = append(worlds, start(t, m, func(cfg *Config) {
				cfg.Budget = cloud.Budget{} // AWS's
				if c.replicas == 2 {
					cfg.Share = &pair{mu: mu, mine: i, marks: marks, other: cms[1-i].Load}
				}
			}))
			cms[i].Store(worlds[i].cm)
		}
		after(2 * time.Minute) // the start is another matter
		throttled := limit(m)
		r := rand.New(rand.NewPCG(1, 2))
		for minute := range int(length / time.Minute) {
			name := fmt.Sprintf("s%d", r.IntN(100))
			m.do(func() { s := m.services[name]; s.add(2 + minute%3); s.revision++ })
			began := time.Now()
			if !c.foreign {
				worlds[0].cm.Hint(mesh.ServiceName{Namespace: "prod", DiscoveryName: name})
			}
			want := 0
			m.do(func() { want = len(m.services[name].instances) })
			shown := func() bool {
				for _, w := range worlds {
					if len(w.endpoints(name)) != want {
						return false
					}
				}
				return true
			}
			for !shown() && time.Since(began) < time.Minute {
				after(100 * time.Millisecond)
			}
			slowest = max(slowest, time.Since(began))
			after(time.Minute - time.Since(began))
		}
		m.do(func() {
			if *throttled > 0 {
				t.Errorf("%d calls were throttled in steady state", *throttled)
			}
			for op, n := range m.calls {
				dollars += cost.Of(op) * float64(n) * float64(cost.Month/length)
			}
		})
	})
	return dollars, slowest
}

// limit makes the registry throttle beyond what AWS, or those who measured it,
// say that it allows in a second. It counts from now on.
func limit(m *memory) (throttled *int) {
	quotas := map[string]int{"DiscoverInstances": 1000, "DiscoverInstancesRevision": 3000, "GetServiceAttributes": 50, "ListServices": 2, "ListNamespaces": 2}
	throttled = new(int)
	second, made := int64(0), map[string]int{}
	m.do(func() {
		clear(m.calls)
		m.fail = func(op, _ string) error {
			if now := time.Now().Unix(); now != second {
				second = now
				clear(made)
			}
			if made[op]++; made[op] > quotas[op] {
				*throttled++
				return &smithy.GenericAPIError{Code: "RequestLimitExceeded"}
			}
			return nil
		}
	})
	return throttled
}

// What a hundred services cost, from the calls that were made. The bill that
// `patchbay cost` computes must agree.
func TestAnHourOfAHundredServices(t *testing.T) {
	bill := func(m cost.Mesh) float64 {
		m.Services, m.Namespaces, m.Shared, m.ChangesPerMinute = 100, 1, true, 1
		return m.Month(cost.Schedule{Topology: 30 * time.Second, Settings: time.Minute}).Calls
	}
	check := func(what string, s scenario, m cost.Mesh, most float64, latest time.Duration) float64 {
		t.Helper()
		dollars, slowest := s.hour(t)
		t.Logf("%s: $%.2f a month, computed $%.2f, the slowest change was seen after %s", what, dollars, bill(m), slowest)
		if dollars > most || slowest > latest {
			t.Errorf("%s: $%.2f and %s; allowed: $%.2f and %s", what, dollars, slowest, most, latest)
		}
		if b := bill(m); b < 0.8*dollars || b > 1.25*dollars {
			t.Errorf("%s: cost says $%.2f, the calls come to $%.2f", what, b, dollars)
		}
		return dollars
	}
	hinted := check("hinted", scenario{replicas: 2}, cost.Mesh{Managed: 100, Replicas: 2}, 20, 2*time.Second)
	check("unhinted", scenario{foreign: true, replicas: 2}, cost.Mesh{Replicas: 2}, 35, 15*time.Second)
	check("health checks everywhere", scenario{checked: true, replicas: 2}, cost.Mesh{Managed: 100, Checked: 100, Replicas: 2}, hinted+9, 2*time.Second)
}

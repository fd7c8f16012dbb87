package cost

import (
	"testing"
	"time"
)

var schedule = Schedule{Topology: 30 * time.Second, Settings: time.Minute}

// The bills that the product promises for a hundred services and one change a
// minute.
func TestTheBillOfAHundredServices(t *testing.T) {
	m := Mesh{Services: 100, Managed: 100, Namespaces: 1, Replicas: 3, Shared: true, ChangesPerMinute: 1}
	hinted := m.Month(schedule).Calls
	if hinted > 20 {
		t.Errorf("hinted: $%.2f", hinted)
	}
	m.Checked = 100
	if more := m.Month(schedule).Calls - hinted; more > 9 {
		t.Errorf("health checks everywhere cost $%.2f more", more)
	}
	m.Checked, m.Managed = 0, 0
	if bill := m.Month(schedule).Calls; bill > 35 {
		t.Errorf("unhinted: $%.2f", bill)
	}
	m.Shared = false
	if alone := m.Month(schedule).Calls; alone < 2*hinted {
		t.Errorf("three replicas that do not share: $%.2f", alone)
	}
}

func TestABillAddsUp(t *testing.T) {
	b := Mesh{Services: 7, Managed: 3, Checked: 3, Instances: 50, Replicas: 2, Events: true, ChangesPerMinute: 2}.Month(schedule)
	sum := 0.0
	for i, l := range b.Lines {
		sum += l.Dollars
		if l.Calls < 0 || i > 0 && l.Dollars > b.Lines[i-1].Dollars {
			t.Errorf("line %+v", l)
		}
	}
	if d := sum - b.Calls; d > 1e-9 || d < -1e-9 || b.Resources != 5 {
		t.Errorf("the lines come to %v, the bill to %v; instances %v", sum, b.Calls, b.Resources)
	}
}

package day

import (
	"testing"
	"time"

	"patchbay/discovery/cost"
)

// An hour of each case keeps to what a day is to keep to, and comes to what
// `patchbay cost` computes.
func TestAnHourOfEachCase(t *testing.T) {
	hinted := 0.0
	for _, c := range Cases {
		r := c.Simulate(t, time.Hour)
		if c == Cases[0] {
			hinted = r.Dollars
		}
		for _, row := range r.rows(c, hinted) {
			t.Logf("%s: %s: %.4g %s", row.Scenario, row.Metric, row.Values[0], row.Unit)
			if row.Goal != "" && row.Values[0] > row.Limit {
				t.Errorf("%s: %.4g, at most %.4g", row.Goal, row.Values[0], row.Limit)
			}
		}
		m := cost.Mesh{Services: services, Namespaces: 1, Replicas: both, Shared: true, ChangesPerMinute: 1}
		if !c.Foreign {
			m.Managed = services
		}
		if c.Checked {
			m.Checked = services
		}
		if b := m.Month(cost.Schedule{Topology: 30 * time.Second, Settings: time.Minute}).Calls; b < 0.8*r.Dollars || b > 1.25*r.Dollars {
			t.Errorf("%s: cost says $%.2f, the calls come to $%.2f", c.Name, b, r.Dollars)
		}
	}
}

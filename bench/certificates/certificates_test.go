package certificates

import (
	"testing"

	"patchbay/bench"
)

// A quick run of the part measures every row, and its race issues one
// certificate for each service.
func TestQuick(t *testing.T) {
	p := &bench.Part{}
	if err := Job.Run(t.Context(), bench.Options{Quick: true, Out: t.Output()}, p); err != nil {
		t.Fatal(err)
	}
	Job.Goals(p)
	if len(p.Figures) != 9 || len(p.Goals) != 3 {
		t.Errorf("%d figures, %d goals", len(p.Figures), len(p.Goals))
	}
	for _, metric := range []string{"certificates issued", "services that replicas disagree about"} {
		if f := p.Find("25 services", "race of five", metric); f == nil || f.Median != map[bool]float64{true: 25}[metric == "certificates issued"] {
			t.Errorf("%s: %+v", metric, f)
		}
	}
}

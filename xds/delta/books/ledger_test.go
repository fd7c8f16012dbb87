package books

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"patchbay/xds/delta/wire"
)

// TestLedgerIsAMap holds a ledger against a map through a long random history.
func TestLedgerIsAMap(t *testing.T) {
	const names = 300
	r := rand.New(rand.NewPCG(1, 2))
	entries := make([]*wire.Entry, names)
	for i := range entries {
		entries[i] = wire.Named(fmt.Sprintf("name-%d", i))
	}
	var l ledger
	want := map[string]told{}
	for step := range 50_000 {
		grows := step%10_000 < 6_000
		e := entries[r.IntN(names)]
		switch name, word := e.Name(), uint64(step+1)<<bits|heard; {
		case r.IntN(10) < 4 == grows:
			l.remove(name)
			delete(want, name)
		case r.IntN(2) == 0:
			l.put(name, told{e, word}, nil)
			want[name] = told{e, word}
		default:
			l.put(name, told{nil, word}, entries[r.IntN(names)])
			want[name] = told{nil, word}
		}
		if got := l.get(e.Name()); got != want[e.Name()] {
			t.Fatalf("step %d: %s is %v, not %v", step, e.Name(), got, want[e.Name()])
		}
		if step%500 == 0 {
			if got := maps.Collect(l.all()); !maps.Equal(got, want) || l.n != len(want) {
				t.Fatalf("step %d: %d names, counted %d; want %d", step, len(got), l.n, len(want))
			}
		}
	}
	for name := range want {
		l.remove(name)
	}
	if l.n != 0 || l.slots != nil {
		t.Errorf("an empty ledger keeps %d slots and counts %d", len(l.slots), l.n)
	}
}

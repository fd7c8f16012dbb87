package count

import "testing"

func TestOf(t *testing.T) {
	for n, want := range map[int]string{0: "0 names", 1: "1 name", 2: "2 names"} {
		if got := Of(n, "name"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := Of(uint64(1), "handshake"); got != "1 handshake" {
		t.Error(got)
	}
}

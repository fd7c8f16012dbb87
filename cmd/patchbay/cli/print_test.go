package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestPrint: a short list is printed whole, a long one up to what can be read,
// with its last line, which says what to do.
func TestPrint(t *testing.T) {
	for n, want := range map[int]int{1: 1, maxLines: maxLines, maxLines + 1: maxLines + 1, maxLines + 2: maxLines + 1, 2000: maxLines + 1} {
		var errs []error
		for i := range n {
			errs = append(errs, fmt.Errorf("line %d", i+1))
		}
		var out strings.Builder
		Print(&out, errors.Join(errs...))
		got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(got) != want || got[0] != "patchbay: line 1" && n > 1 || !strings.HasSuffix(got[len(got)-1], fmt.Sprintf("line %d", n)) {
			t.Errorf("%d lines are printed as %d:\n%s", n, len(got), out.String())
		}
		if hidden := fmt.Sprintf("… and %d lines more; mend these first", n-maxLines); n > maxLines+1 && got[maxLines-1] != hidden {
			t.Errorf("%d lines: %q, want %q", n, got[maxLines-1], hidden)
		}
	}
}

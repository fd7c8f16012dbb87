package show

import (
	"strings"
	"testing"

	"patchbay/diagnose"
)

// TestNothingThatATerminalObeys: whatever a finding quotes, only colours of ours
// and line ends go to the terminal.
func TestNothingThatATerminalObeys(t *testing.T) {
	var out strings.Builder
	p, err := New(&out, Text)
	if err != nil {
		t.Fatal(err)
	}
	evil := "1.0\x1b]0;owned\x07\x1b[2J\x1b[31m\x00\u009b\u202e é"
	p.Findings([]diagnose.Finding{{Code: "PB1305", Subject: evil, Title: evil, Cause: evil, Evidence: []string{evil}, Fix: []string{evil}}})
	p.table([]string{"A", "B"}, [][]string{{evil, evil}})
	if got := out.String(); strings.ContainsAny(got, "\x1b\x00\x07\u009b\u202e") || !strings.Contains(got, "1.0\uFFFD]0;owned") || !strings.Contains(got, "é") {
		t.Errorf("%q", got)
	}
	out.Reset()
	if _, err := (visible{&out, true}).Write([]byte("\x1b[1;31mred\x1b[0m\x1b[2J\tx\n")); err != nil || out.String() != "\x1b[1;31mred\x1b[0m\uFFFD[2J\tx\n" {
		t.Errorf("%q %v", out.String(), err)
	}
}

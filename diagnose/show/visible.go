package show

import (
	"io"
	"regexp"
)

// unseen is what a terminal obeys instead of showing it, but for line ends and
// tabs. Colours come first: they are ours, where there are any.
var unseen = regexp.MustCompile(`\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}]`)

// visible writes text for people. What others have said of themselves stands in
// it: they may not move the cursor, or hide a line.
type visible struct {
	w      io.Writer
	colors bool
}

func (v visible) Write(b []byte) (int, error) {
	clean := unseen.ReplaceAllFunc(b, func(m []byte) []byte {
		if v.colors && len(m) > 2 && m[1] == '[' {
			return m
		}
		return []byte("\uFFFD")
	})
	if _, err := v.w.Write(clean); err != nil {
		return 0, err
	}
	return len(b), nil
}

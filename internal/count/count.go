// Package count writes numbers of things in messages: "1 name", "2 names".
//
// It must not know what is counted. Start reading at [Of].
package count

import "strconv"

// Of is n and its noun, in the plural unless n is 1. The plural adds an s.
func Of[N int | int64 | uint64](n N, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.FormatInt(int64(n), 10) + " " + noun //nolint:gosec // counts are small
}

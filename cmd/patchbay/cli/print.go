package cli

import (
	"fmt"
	"io"
	"strings"

	"patchbay/internal/count"
)

// maxLines bounds how much is printed of one error for people.
const maxLines = 50

// Print says why a command ends, as all of them do. Of a long list it prints the
// beginning, how many lines follow, and the last, which says what to do.
func Print(w io.Writer, err error) {
	lines := strings.Split(strings.TrimRight(err.Error(), "\n"), "\n")
	if more := len(lines) - maxLines; more > 1 {
		last := lines[len(lines)-1]
		lines = append(lines[:maxLines-1], fmt.Sprintf("… and %s more; mend these first", count.Of(more, "line")), last)
	}
	fmt.Fprintln(w, "patchbay:", strings.Join(lines, "\n")) //nolint:errcheck // there is nowhere else to say so
}

package strict

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with the file.
type Problem struct {
	File string // as it was named
	Line int    // 0 when the thing is missing
	Path string // dotted, for example xds.listen; empty: the file as a whole
	Text string // what is wrong and what is allowed
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems is everything that is wrong, in the order of the file; what is
// missing comes first.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	if len(p) == 1 {
		return lines[0]
	}
	return fmt.Sprintf("%d problems in the configuration:\n%s", len(p), strings.Join(lines, "\n"))
}

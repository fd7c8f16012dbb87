// Package doctor holds a page for each code of `patchbay doctor`.
//
// It owns the pages and nothing else; their titles are those of package
// diagnose. Start reading at [Page].
package doctor

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed PB*.md
var pages embed.FS

// Page is the page of a code, such as PB1401, in Markdown.
func Page(code string) (string, error) {
	b, err := pages.ReadFile(strings.ToUpper(code) + ".md")
	if err != nil {
		return "", fmt.Errorf("there is no code %q: docs/doctor has a page for each", code)
	}
	return string(b), nil
}

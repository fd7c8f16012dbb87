package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"patchbay/cmd/patchbay/tasks"
)

// TestSidecarPage holds the table of docs/reference/sidecar.md against the
// flags: every one, with the name of its variable and its default.
func TestSidecarPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/sidecar.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| `--") && len(cells) == 4 {
			rows[strings.Trim(cells[0], "| `")] = cells
		}
	}
	sidecarCommand().Flags().VisitAll(func(f *pflag.Flag) {
		cells, ok := rows["--"+f.Name]
		if !ok {
			t.Errorf("the page lacks --%s", f.Name)
			return
		}
		delete(rows, "--"+f.Name)
		if want := "`" + tasks.Variable(f.Name) + "`"; cells[1] != want && f.Name != "config" {
			t.Errorf("--%s: the page says %s; its variable is %s", f.Name, cells[1], want)
		}
		zero := f.DefValue == "" || f.DefValue == "[]" || f.DefValue == "0s"
		if said := strings.Trim(cells[2], "`"); !zero && said != f.DefValue {
			t.Errorf("--%s: the page says that its default is %s; it is %s", f.Name, said, f.DefValue)
		}
	})
	for name := range rows {
		t.Errorf("the page has %s, which is no flag", name)
	}
}

// TestAnEmptyVariableIsNone: a compose file writes what has no value as empty.
func TestAnEmptyVariableIsNone(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("PATCHBAY_DRAIN_TIME", "")
	t.Setenv("PATCHBAY_CONCURRENCY", "")
	t.Setenv("PATCHBAY_STOP_TIMEOUT", "soon")
	code, out := command(t, "sidecar", "--state", "state")
	if code != exitUsage || !strings.Contains(out, "PATCHBAY_STOP_TIMEOUT") || strings.Contains(out, "PATCHBAY_DRAIN_TIME") || strings.Contains(out, "PATCHBAY_CONCURRENCY") {
		t.Errorf("%d:\n%s", code, out)
	}
}

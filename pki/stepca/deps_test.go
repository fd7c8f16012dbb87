package stepca_test

import (
	"os/exec"
	"strings"
	"testing"
)

// tags leave smallstep's database drivers out; the Makefile builds with them.
const tags = "nobadger,nobadgerv1,nobadgerv2,nomysql,nopgx"

// smallstep's client imports its authority, and that its databases. Products
// built with our tags link none of them.
func TestNoDatabaseDriversAreLinked(t *testing.T) {
	for _, pkg := range []string{"patchbay/pki/stepca", "patchbay/cmd/patchbay", "patchbay/cmd/devca"} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", tags, pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("go list %s: %v\n%s", pkg, err, out)
		}
		deps := strings.Fields(string(out))
		if len(deps) < 50 {
			t.Errorf("%s: go list named %d packages", pkg, len(deps))
		}
		for _, dep := range deps {
			for _, driver := range []string{"github.com/dgraph-io/badger", "github.com/go-sql-driver/mysql", "github.com/jackc/pgx"} {
				if strings.HasPrefix(dep, driver) {
					t.Errorf("%s links %s", pkg, dep)
				}
			}
			if pkg == "patchbay/cmd/patchbay" && dep == "patchbay/internal/devca" {
				t.Error("patchbay links the authority of devca")
			}
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "patchbay/pki").CombinedOutput()
	if err != nil || strings.Contains(string(out), "github.com/smallstep/") {
		t.Errorf("package pki itself needs nothing of smallstep: %v\n%s", err, out)
	}
}

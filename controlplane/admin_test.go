package controlplane

import (
	"os"
	"strings"
	"testing"

	"patchbay/config"
)

// TestAShortAdminToken is refused, with what is allowed; one of ours is not.
func TestAShortAdminToken(t *testing.T) {
	var c config.Config
	c.Data = t.TempDir()
	if token, err := AdminToken(c); err != nil || len(token) < tokenLeast {
		t.Errorf("%q, %v", token, err)
	}
	for _, text := range []string{"", "a\n", "fifteen-letters"} {
		if err := os.WriteFile(AdminTokenFile(c.Data), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := AdminToken(c); err == nil || !strings.Contains(err.Error(), "allowed: 16 or more. Remove the file") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestFaultsAreForLocalMeshes: where the registry is another's, none is made.
func TestFaultsAreForLocalMeshes(t *testing.T) {
	cfg := config.Default()
	cfg.CloudMap = &config.CloudMap{}
	if why := noFaults(cfg); !strings.Contains(why, "AWS Cloud Map") {
		t.Errorf("%q", why)
	}
	cfg.Registry = &config.Registry{}
	if why := noFaults(cfg); why != "" {
		t.Errorf("%q", why)
	}
	cfg.Registry.Etcd = &config.Etcd{}
	if why := noFaults(cfg); !strings.Contains(why, "etcd") {
		t.Errorf("%q", why)
	}
}

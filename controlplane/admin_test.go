package controlplane

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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

// A full disk at the first start leaves no token that a later start would refuse.
func TestAnAdminTokenOnAFullDisk(t *testing.T) {
	var c config.Config
	c.Data = t.TempDir()
	if err := unix.Mount("none", c.Data, "tmpfs", 0, "size=16k"); err != nil {
		t.Skip("needs the right to mount:", err)
	}
	t.Cleanup(func() { unix.Unmount(c.Data, unix.MNT_DETACH) })
	fill := filepath.Join(c.Data, "fill")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if token, err := AdminToken(c); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("on a full disk: %q, %v", token, err)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if token, err := AdminToken(c); err != nil || len(token) < tokenLeast {
		t.Errorf("afterwards: %q, %v", token, err)
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

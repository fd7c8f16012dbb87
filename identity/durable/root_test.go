package durable

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What a user who may write in the directory has put there leads nowhere else.
func TestReplaceInFollowsNothing(t *testing.T) {
	dir, foreign := t.TempDir(), filepath.Join(t.TempDir(), "foreign")
	if err := os.WriteFile(foreign, []byte("foreign"), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"file", ".file.new"} {
		if err := os.Symlink(foreign, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ReplaceIn(root, "file", []byte("ours"), 0); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(filepath.Join(dir, "file"))
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for path, want := range map[string]string{foreign: "foreign", filepath.Join(dir, "file"): "ours"} {
		if text, err := os.ReadFile(path); string(text) != want {
			t.Errorf("%s: %q, %v; want %q", path, text, err, want)
		}
	}
}

// A full disk leaves what was there, and nothing beside it.
func TestReplaceInOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skip("needs the right to mount:", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := ReplaceIn(root, "file", []byte("old"), 0); err != nil {
		t.Fatal(err)
	}
	if err := ReplaceIn(root, "file", make([]byte, 1<<20), 0); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	all, err := os.ReadDir(dir)
	if err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	if text, err := root.ReadFile("file"); string(text) != "old" {
		t.Errorf("%q, %v", text, err)
	}
	if err := ReplaceIn(root, "file", []byte("new"), 0); err != nil {
		t.Error(err)
	}
}

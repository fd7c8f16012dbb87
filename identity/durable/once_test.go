package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOnce(t *testing.T) {
	now := time.Now()
	path := filepath.Join(t.TempDir(), "control", "used")
	open := func() *Once {
		t.Helper()
		u, err := OpenOnce(path, now)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	claim := func(u *Once, id string, expiry time.Time, want bool) {
		t.Helper()
		if got, err := u.Claim(id, expiry, now); err != nil || got != want {
			t.Errorf("claim of %s: %v %v, want %v", id, got, err, want)
		}
	}
	a := open()
	claim(a, "1", now.Add(time.Minute), true)
	claim(a, "old", now.Add(-time.Hour), true)
	// A crash in the middle of a line.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("17")
	f.Close()
	claim(a, "2", now.Add(time.Minute), true)
	b := open() // leaves out what has expired: a new file
	claim(b, "old", now.Add(time.Minute), true)
	claim(b, "1", now.Add(time.Minute), false)
	claim(b, "2", now.Add(time.Minute), false)
	claim(a, "old", now.Add(time.Minute), false)
	claim(a, "3", now.Add(time.Minute), true)
	claim(b, "3", now.Add(time.Minute), false)
	// It is written anew when it is full: what has expired goes.
	for i := range 20 {
		claim(b, fmt.Sprint("x", i), now.Add(-time.Hour), true)
	}
	b.full = b.lines
	claim(b, "4", now.Add(time.Minute), true)
	if b.lines != 5 || len(b.ids) != 5 {
		t.Errorf("the record has %d lines, %d ids; want those of 5 proofs", b.lines, len(b.ids))
	}
	claim(a, "4", now.Add(time.Minute), false)
	// Somebody removes it.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	claim(a, "4", now.Add(time.Minute), false)
	claim(a, "5", now.Add(time.Minute), true)
	claim(b, "5", now.Add(time.Minute), false)
}

// A full disk lets no claim pass, and what was remembered counts.
func TestOnceOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("needs the right to mount:", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	now, path, fill := time.Now(), filepath.Join(dir, "control", "used"), filepath.Join(dir, "fill")
	open := func() *Once {
		t.Helper()
		u, err := OpenOnce(path, now)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { u.file.Close() })
		return u
	}
	if ok, err := open().Claim("1", now.Add(time.Minute), now); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	u := open()
	if ok, err := u.Claim("2", now.Add(time.Minute), now); ok || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a claim on a full disk: %v, %v", ok, err)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"1": false, "2": true} {
		if ok, err := u.Claim(key, now.Add(time.Minute), now); ok != want || err != nil {
			t.Errorf("claim of %s after it: %v, %v", key, ok, err)
		}
	}
}

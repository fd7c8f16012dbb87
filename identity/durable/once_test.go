package durable

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
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

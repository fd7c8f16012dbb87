package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
)

// kinds makes a store of each kind; reopen gives what is left after a restart.
var kinds = map[string]func(t *testing.T) (open func() Store){
	"memory": func(*testing.T) func() Store {
		m := &Memory{}
		return func() Store { return m }
	},
	"bolt": func(t *testing.T) func() Store {
		path := filepath.Join(t.TempDir(), "sub", "registry.db")
		return func() Store {
			b, err := OpenBolt(path)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	},
}

func all(t *testing.T, s Store) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := s.Load(func(table, key string, value []byte) error {
		m[table+"/"+key] = string(value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestConformance(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			open := kind(t)
			s := open()
			if got := all(t, s); len(got) != 0 {
				t.Fatalf("a new store holds %v", got)
			}
			apply := func(c ...Change) {
				t.Helper()
				if err := s.Apply(c); err != nil {
					t.Fatal(err)
				}
			}
			value := []byte("one")
			apply(Change{"a", "x", value}, Change{"a", "y", []byte("two")}, Change{"b", "x", []byte("three")}, Change{"b", "gone", nil})
			copy(value, "***")
			apply(Change{"a", "y", nil}, Change{"a", "y", []byte("again")}, Change{"b", "x", []byte("first")}, Change{"b", "x", nil}, Change{"c", "empty", []byte{}})
			apply()
			want := map[string]string{"a/x": "one", "a/y": "again", "c/empty": ""}
			if diff := cmp.Diff(want, all(t, s)); diff != "" {
				t.Fatalf("-want +got\n%s", diff)
			}

			stop := errors.New("stop")
			if err := s.Load(func(string, string, []byte) error { return stop }); !errors.Is(err, stop) {
				t.Errorf("Load returned %v, not the callback's error", err)
			}
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					if err := s.Apply([]Change{{"many", fmt.Sprint(i), []byte("v")}}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}

			s = open()
			defer s.Close()
			for i := range 20 {
				want["many/"+fmt.Sprint(i)] = "v"
			}
			if diff := cmp.Diff(want, all(t, s)); diff != "" {
				t.Errorf("after a restart: -want +got\n%s", diff)
			}
		})
	}
}

func TestBoltAppliesAllOrNothing(t *testing.T) {
	s := kinds["bolt"](t)()
	defer s.Close()
	if err := s.Apply([]Change{{"a", "x", []byte("1")}, {"a", "", []byte("a key can't be empty")}}); err == nil {
		t.Fatal("an empty key was accepted")
	}
	if got := all(t, s); len(got) != 0 {
		t.Errorf("a failed batch left %v", got)
	}
}

func TestBoltRefusesWhatItCannotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	first, err := OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBolt(path); err == nil || !strings.Contains(err.Error(), "another process holds it") {
		t.Errorf("a locked file: %v", err)
	}
	if err := first.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(schemaKey, []byte("99")) }); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBolt(path); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), path) {
		t.Errorf("a file of another version: %v", err)
	}
}

// A file that is cut short, or has a page of something else, is refused by
// name or read as it was; it never ends the process.
func TestBoltRefusesADamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	s, err := OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if err := s.Apply([]Change{{"instances", fmt.Sprint(i), bytes.Repeat([]byte("x"), 300)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page, refused := os.Getpagesize(), 0
	try := func(what string, content []byte) {
		path := filepath.Join(t.TempDir(), "registry.db")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenBolt(path)
		if err == nil {
			defer s.Close()
			err = s.Load(func(string, string, []byte) error { return nil })
		}
		if err != nil {
			refused++
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v does not name the file", what, err)
			}
		}
	}
	for at := page; at < len(whole); at += page {
		try(fmt.Sprintf("cut at %d", at), whole[:at])
		damage := bytes.Clone(whole)
		copy(damage[at:], bytes.Repeat([]byte{0xa5}, page))
		try(fmt.Sprintf("damaged at %d", at), damage)
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

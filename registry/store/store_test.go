package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"patchbay/registry/store"
	"patchbay/registry/store/storetest"
)

// kinds makes a store of each kind; reopen gives what is left after a restart.
var kinds = map[string]func(t *testing.T) (open func() store.Store){
	"memory": func(*testing.T) func() store.Store {
		m := &store.Memory{}
		return func() store.Store { return m }
	},
	"bolt": func(t *testing.T) func() store.Store {
		path := filepath.Join(t.TempDir(), "sub", "registry.db")
		return func() store.Store {
			b, err := store.OpenBolt(path)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	},
}

func all(t *testing.T, s store.Store) map[string]string { return storetest.All(t, s) }

func TestConformance(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) { storetest.Run(t, kind(t)) })
	}
}

func TestBoltAppliesAllOrNothing(t *testing.T) {
	s := kinds["bolt"](t)()
	defer s.Close()
	if err := s.Apply([]store.Change{{Table: "a", Key: "x", Value: []byte("1")}, {Table: "a", Key: "", Value: []byte("a key can't be empty")}}); err == nil {
		t.Fatal("an empty key was accepted")
	}
	if got := all(t, s); len(got) != 0 {
		t.Errorf("a failed batch left %v", got)
	}
}

func TestBoltRefusesWhatItCannotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	first, err := store.OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenBolt(path); err == nil || !strings.Contains(err.Error(), "another process holds it") {
		t.Errorf("a locked file: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("schema"), []byte("99")) }), db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenBolt(path); !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), path) {
		t.Errorf("a file of another version: %v", err)
	}
}

// A file that is cut short, or has a page of something else, is refused by
// name or read as it was; it never ends the process.
func TestBoltRefusesADamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	s, err := store.OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if err := s.Apply([]store.Change{{Table: "instances", Key: fmt.Sprint(i), Value: bytes.Repeat([]byte("x"), 300)}}); err != nil {
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
	again, err := store.OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := errors.New("decode instances 7")
	if err := again.Load(func(string, string, []byte) error { return bad }); !errors.Is(err, bad) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "put a copy of it back") {
		t.Errorf("a record that can't be read: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	page, refused := os.Getpagesize(), 0
	try := func(what string, content []byte) {
		path := filepath.Join(t.TempDir(), "registry.db")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.OpenBolt(path)
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

package secret

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// FileOptions say where a [File] keeps its secrets and its key.
type FileOptions struct {
	Dir     string // made 0700; used by one control plane
	KeyFile string // made 0600 with a new key on first use; empty: Dir + ".key"
	Key     []byte // 32 bytes, see [ParseKey]; goes before KeyFile
}

// File is a [Store] in a directory, a file for each secret. Files are
// sealed with AES-256-GCM, bound to name and generation, and replaced as a
// whole. It withholds the secrets from whoever gets at the files without the
// key (a backup, a disk); it can't tell that somebody put back an older file.
type File struct {
	o    FileOptions
	mu   sync.Mutex
	seal *sealer // nil until first use
}

// NewFile returns a store over o.Dir. It touches nothing until it is used.
func NewFile(o FileOptions) *File {
	o.KeyFile = cmp.Or(o.KeyFile, filepath.Clean(o.Dir)+".key")
	return &File{o: o}
}

// envelope is what a file holds. Name and Generation are in clear, so that an
// operator may see them, and authenticated with the value.
type envelope struct {
	Version    int    `json:"version"`
	Name       string `json:"name"`
	Generation uint64 `json:"generation"`
	KeyID      string `json:"keyId"`
	Sealed     []byte `json:"sealed"`
	Prepared   bool   `json:"prepared,omitempty"`
	For        string `json:"for,omitempty"` // of a prepared one
}

const envelopeVersion = 1

// The two kinds of files of a name.
const (
	saved    = ".secret"
	prepared = ".prepared"
)

// Load implements [Store].
func (f *File) Load(ctx context.Context, name string) (s Entry, err error) {
	err = f.locked(ctx, func() error {
		s, err = f.open(name, saved)
		return err
	})
	if err != nil {
		return Entry{}, fmt.Errorf("load secret %s: %w", name, err)
	}
	return s, nil
}

// Save implements [Store].
func (f *File) Save(ctx context.Context, s Entry) error {
	err := f.locked(ctx, func() error {
		if err := f.follows(s); err != nil {
			return err
		}
		s.For = ""
		if err := f.write(s, saved); err != nil {
			return err
		}
		os.Remove(f.path(s.Name, prepared)) //nolint:errcheck // one that stays behind is of no use any more
		return nil
	})
	if err != nil {
		return fmt.Errorf("save %s: %w", s, err)
	}
	return nil
}

// Prepare implements [Store].
func (f *File) Prepare(ctx context.Context, s Entry) (out Entry, mine bool, err error) {
	err = f.locked(ctx, func() error {
		if err := f.follows(s); err != nil {
			return err
		}
		old, err := f.open(s.Name, prepared)
		switch {
		case err == nil && old.Generation == s.Generation && old.For == s.For:
			out = old
			return nil
		case err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, ErrCorrupt):
			return err
		}
		out, mine = s, true
		out.Value = slices.Clone(s.Value)
		return f.write(s, prepared)
	})
	if err != nil {
		return Entry{}, false, fmt.Errorf("prepare %s: %w", s, err)
	}
	return out, mine, nil
}

// follows refuses a generation that is not one more than what is stored.
func (f *File) follows(s Entry) error {
	old, err := f.read(s.Name, saved)
	if err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, ErrCorrupt) {
		return err
	}
	if s.Generation != old.Generation+1 {
		return ErrConflict
	}
	return nil
}

// open reads a secret.
func (f *File) open(name, kind string) (Entry, error) {
	e, err := f.read(name, kind)
	if err != nil {
		return Entry{}, err
	}
	value, err := f.seal.open(e)
	if err != nil {
		return Entry{}, f.quarantine(name, kind, err)
	}
	return Entry{Name: name, Generation: e.Generation, Value: value, For: e.For}, nil
}

func (f *File) write(s Entry, kind string) error {
	text, err := json.Marshal(f.seal.close(s, kind == prepared))
	if err != nil {
		return err
	}
	return f.replace(f.path(s.Name, kind), append(text, '\n'))
}

// read returns the envelope of a name, its seal unopened.
func (f *File) read(name, kind string) (envelope, error) {
	text, err := os.ReadFile(f.path(name, kind))
	if errors.Is(err, fs.ErrNotExist) {
		return envelope{}, ErrNone
	}
	if err != nil {
		return envelope{}, err
	}
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return envelope{}, f.quarantine(name, kind, err)
	}
	if e.Version > envelopeVersion {
		return envelope{}, fmt.Errorf("%s has version %d; this program reads up to %d", f.path(name, kind), e.Version, envelopeVersion)
	}
	if e.Version < 1 || e.Name != name || e.Generation == 0 || e.Prepared != (kind == prepared) {
		return envelope{}, f.quarantine(name, kind, fmt.Errorf("it says version %d, name %q, generation %d", e.Version, e.Name, e.Generation))
	}
	if e.KeyID != f.seal.id {
		return envelope{}, fmt.Errorf("%w: %s needs key %s, this is key %s", ErrOtherKey, f.path(name, kind), e.KeyID, f.seal.id)
	}
	return e, nil
}

// quarantine puts a file that can't be read aside, so that a new one may be
// stored and an operator may look at it.
func (f *File) quarantine(name, kind string, why error) error {
	aside := f.path(name, kind) + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000000000")
	if err := os.Rename(f.path(name, kind), aside); err != nil {
		return fmt.Errorf("it can't be read (%w) and not be put aside: %w", why, err)
	}
	return fmt.Errorf("%w: %w; it is now %s", ErrCorrupt, why, aside)
}

// path is a file name that can be read back by eye and can't leave the
// directory; a long name is cut and made unique by its hash.
func (f *File) path(name, kind string) string {
	base := url.QueryEscape(name)
	if len(base) > 180 {
		sum := sha256.Sum256([]byte(name))
		base = base[:140] + "~" + hex.EncodeToString(sum[:16])
	}
	return filepath.Join(f.o.Dir, base+kind)
}

// replace writes path as a whole: whoever reads sees the old or the new, also
// after a crash of the machine.
func (f *File) replace(path string, text []byte) error {
	t, err := os.CreateTemp(f.o.Dir, ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(t.Name()) // gone already when all went well
	_, err1 := t.Write(text)
	if err := errors.Join(err1, t.Sync(), t.Close()); err != nil {
		return err
	}
	if err := os.Rename(t.Name(), path); err != nil {
		return err
	}
	return syncDir(f.o.Dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// locked runs work while nobody else, in this process or in another, works on
// the directory. The key has been read when work runs.
func (f *File) locked(ctx context.Context, work func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.seal == nil {
		if err := f.start(); err != nil {
			return err
		}
	}
	lock, err := os.OpenFile(filepath.Join(f.o.Dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // unlocks
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", f.o.Dir, err)
	}
	return work()
}

// start makes the directory and gets the key.
func (f *File) start() error {
	if err := os.MkdirAll(f.o.Dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(f.o.Dir, 0o700); err != nil { //nolint:gosec // a directory
		return err
	}
	key := f.o.Key
	if len(key) == 0 {
		var err error
		if key, err = readKey(f.o.KeyFile); err != nil {
			return err
		}
	}
	seal, err := newSealer(key)
	if err != nil {
		return err
	}
	f.seal = seal
	return nil
}

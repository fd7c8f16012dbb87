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
}

const envelopeVersion = 1

// Load implements [Store].
func (f *File) Load(ctx context.Context, name string) (s Entry, err error) {
	err = f.locked(ctx, func() error {
		e, err := f.read(name)
		if err != nil {
			return err
		}
		value, err := f.seal.open(e)
		if err != nil {
			return f.quarantine(name, err)
		}
		s = Entry{Name: name, Generation: e.Generation, Value: value}
		return nil
	})
	if err != nil {
		return Entry{}, fmt.Errorf("load secret %s: %w", name, err)
	}
	return s, nil
}

// Save implements [Store].
func (f *File) Save(ctx context.Context, s Entry) error {
	err := f.locked(ctx, func() error {
		old, err := f.read(s.Name)
		if err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, ErrCorrupt) {
			return err
		}
		if s.Generation != old.Generation+1 {
			return ErrConflict
		}
		text, err := json.Marshal(f.seal.close(s))
		if err != nil {
			return err
		}
		return f.replace(f.path(s.Name), append(text, '\n'))
	})
	if err != nil {
		return fmt.Errorf("save %s: %w", s, err)
	}
	return nil
}

// read returns the envelope of a name, its seal unopened.
func (f *File) read(name string) (envelope, error) {
	text, err := os.ReadFile(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return envelope{}, ErrNone
	}
	if err != nil {
		return envelope{}, err
	}
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return envelope{}, f.quarantine(name, err)
	}
	if e.Version > envelopeVersion {
		return envelope{}, fmt.Errorf("%s has version %d; this program reads up to %d", f.path(name), e.Version, envelopeVersion)
	}
	if e.Version < 1 || e.Name != name || e.Generation == 0 {
		return envelope{}, f.quarantine(name, fmt.Errorf("it says version %d, name %q, generation %d", e.Version, e.Name, e.Generation))
	}
	if e.KeyID != f.seal.id {
		return envelope{}, fmt.Errorf("%w: %s needs key %s, this is key %s", ErrOtherKey, f.path(name), e.KeyID, f.seal.id)
	}
	return e, nil
}

// quarantine puts a file that can't be read aside, so that a new one may be
// stored and an operator may look at it.
func (f *File) quarantine(name string, why error) error {
	aside := f.path(name) + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000000000")
	if err := os.Rename(f.path(name), aside); err != nil {
		return fmt.Errorf("it can't be read (%w) and not be put aside: %w", why, err)
	}
	return fmt.Errorf("%w: %w; it is now %s", ErrCorrupt, why, aside)
}

// path is a file name that can be read back by eye and can't leave the
// directory; a long name is cut and made unique by its hash.
func (f *File) path(name string) string {
	base := url.QueryEscape(name)
	if len(base) > 180 {
		sum := sha256.Sum256([]byte(name))
		base = base[:140] + "~" + hex.EncodeToString(sum[:16])
	}
	return filepath.Join(f.o.Dir, base+".secret")
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
		if err := f.open(); err != nil {
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

// open makes the directory and gets the key.
func (f *File) open() error {
	if err := os.MkdirAll(f.o.Dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(f.o.Dir, 0o700); err != nil {
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

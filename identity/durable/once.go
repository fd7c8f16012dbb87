package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// compactAt is how many lines the file has at least, of about
// 100 bytes each, when those that have expired are left out.
const compactAt = 10_000

// Once remembers what may happen only once, for as long as each must be
// remembered: across restarts, and across the processes that share its file. It
// is safe for concurrent use.
type Once struct {
	path string

	mu    sync.Mutex
	ids   map[string]time.Time // when each may be forgotten
	file  *os.File
	read  int64 // how much of file is in ids
	lines int   // in file
	full  int   // as many lines are worth leaving out those that have expired
	lost  int   // lines that can't be read
}

// OpenOnce reads what was remembered; now is the time.
func OpenOnce(path string, now time.Time) (*Once, error) {
	u := &Once{path: path}
	unlock, err := u.locked()
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Where nothing can be written what was remembered is good all the same: a
	// full disk must not keep a control plane from serving those who have
	// joined. Each claim tries to write again, and says what is wrong.
	if err := u.compact(now); err != nil && u.file == nil {
		return nil, fmt.Errorf("remember: %w", err)
	}
	return u, nil
}

// locked keeps out every other reader and writer of the record.
func (u *Once) locked() (func(), error) {
	if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Dir(u.path)), 0o700), MakeDir(filepath.Dir(u.path))); err != nil {
		return nil, fmt.Errorf("remember: %w", err)
	}
	unlock, err := Lock(u.path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("remember: %w", err)
	}
	return unlock, nil
}

// Claim marks a key as used until a time, on disk before it answers true. It
// answers false for one that was used before, by whomever. A key holds no white
// space.
func (u *Once) Claim(key string, until, now time.Time) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	unlock, err := u.locked()
	if err != nil {
		return false, err
	}
	defer unlock()
	err = u.follow()
	if errors.Is(err, os.ErrNotExist) { // somebody removed it: what is known is written again
		err = u.compact(now)
	}
	if err != nil {
		return false, fmt.Errorf("remember: %w", err)
	}
	if _, again := u.ids[key]; again {
		return false, nil
	}
	if u.lines >= u.full {
		if err := u.compact(now); err != nil {
			return false, fmt.Errorf("remember: %w", err)
		}
	}
	until = until.Truncate(time.Second).Add(time.Second)
	n, err := fmt.Fprintf(u.file, "%d %s\n", until.Unix(), key)
	if err = errors.Join(err, u.file.Sync()); err != nil {
		return false, fmt.Errorf("remember: %w", err)
	}
	u.ids[key], u.read, u.lines = until, u.read+int64(n), u.lines+1
	return true, nil
}

// All are those that are remembered, and until when. The map is the caller's.
func (u *Once) All() map[string]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.ids)
}

// Lost is how many lines of the record could not be read: what they said is
// forgotten.
func (u *Once) Lost() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.lost
}

// follow takes in what others wrote since, also into a file that replaced ours.
func (u *Once) follow() error {
	now, err := os.Stat(u.path)
	if err != nil {
		return err
	}
	if u.file != nil {
		ours, err := u.file.Stat()
		if err != nil {
			return err
		}
		if os.SameFile(ours, now) && now.Size() == u.read {
			return nil
		}
		if !os.SameFile(ours, now) {
			u.file.Close()
			u.file = nil
		}
	}
	if u.file == nil {
		if u.file, err = os.OpenFile(u.path, os.O_APPEND|os.O_RDWR, 0o600); err != nil {
			return err
		}
		u.read, u.lines, u.ids = 0, 0, map[string]time.Time{}
	}
	text, err := io.ReadAll(io.NewSectionReader(u.file, u.read, now.Size()-u.read))
	if err != nil {
		return err
	}
	u.take(text)
	u.read += int64(len(text))
	// A crash may have cut off the last line: its claim was never answered. It
	// must not become the beginning of the next one.
	if len(text) > 0 && text[len(text)-1] != '\n' {
		n, err := u.file.WriteString("\n")
		u.read += int64(n)
		return err
	}
	return nil
}

func (u *Once) take(text []byte) {
	for line := range bytes.Lines(text) {
		u.lines++
		at, id, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		if unix, err := strconv.ParseInt(at, 10, 64); ok && err == nil {
			u.ids[id] = time.Unix(unix, 0)
		} else if strings.HasSuffix(string(line), "\n") && len(line) > 1 { // else a crash cut it off, and nobody relies on it
			u.lost++
		}
	}
}

// compact leaves out what has expired.
func (u *Once) compact(now time.Time) error {
	if err := u.follow(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var kept strings.Builder
	for id, until := range u.ids {
		if until.After(now) {
			fmt.Fprintf(&kept, "%d %s\n", until.Unix(), id)
		}
	}
	if err := WriteFile(u.path, []byte(kept.String()), 0o600); err != nil {
		return err
	}
	err := u.follow()
	u.full = max(compactAt, 2*len(u.ids))
	return err
}

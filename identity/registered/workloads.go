package registered

import (
	"cmp"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"patchbay/identity/taskrole"
	"patchbay/mesh"
)

// Registrations are looked at again when a caller comes and they are older
// than fresh. Callers with an unknown key id make it look at once, at most
// strangersPerSecond times a second.
const (
	fresh              = time.Second
	strangersPerSecond = 10
)

// Workloads is the directory of registrations. It is safe for concurrent use.
type Workloads struct {
	dir       string
	log       *slog.Logger
	strangers *rate.Limiter

	mu     sync.Mutex
	files  map[string]registered // by file name
	byName map[string]mesh.Workload
	byKey  map[string][]Key // several only by mistake; then none counts
	looked time.Time
	told   string                   // the problems that were logged last
	roles  map[string]mesh.Workload // that are joined by an AWS role, by [roleOf]; no files
}

// registered is a file as it was read last. What it said when it was good goes
// on to count while it is not.
type registered struct {
	stamp stamp
	good  *Registration
	err   error
}

// stamp changes whenever a file is written or replaced.
type stamp struct {
	inode          uint64
	size           int64
	written, since syscall.Timespec
}

// Key is a join key, and whose it is.
type Key struct {
	ID       string
	Workload mesh.Workload
	Public   *ecdsa.PublicKey
}

// New reads nothing yet.
func New(dir string, log *slog.Logger) *Workloads {
	return &Workloads{dir: dir, log: log, strangers: rate.NewLimiter(strangersPerSecond, strangersPerSecond), files: map[string]registered{}}
}

// Load looks at the files again and reads those that changed. The error names
// every file that is wrong, with all that is wrong in it; what such a file said
// before goes on to count. A directory that can't be read removes nobody.
func (w *Workloads) Load() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.load()
}

func (w *Workloads) load() error {
	w.looked = time.Now()
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && len(w.files) == 0 {
			return nil // nobody is registered yet
		}
		return fmt.Errorf("read identities: %w", err)
	}
	next := map[string]registered{}
	gone := false
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		if f, there := w.look(e.Name()); there {
			next[e.Name()] = f
		} else {
			gone = true
		}
	}
	if gone {
		// One file that vanishes is withdrawn; with its directory it is not.
		if _, err := os.Stat(w.dir); err != nil {
			return fmt.Errorf("read identities: %w", err)
		}
	}
	w.files = next
	return w.index()
}

// look reads one file if it changed.
func (w *Workloads) look(name string) (registered, bool) {
	path := filepath.Join(w.dir, name)
	before := w.files[name]
	var st syscall.Stat_t
	err := syscall.Stat(path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return registered{}, false
	}
	now := stamp{st.Ino, st.Size, st.Mtim, st.Ctim}
	if err == nil && now == before.stamp {
		return before, true
	}
	r, err := Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return registered{}, false
	}
	if err != nil {
		return registered{now, before.good, err}, true
	}
	return registered{now, &r, nil}, true
}

// index builds the maps and returns all that is wrong.
func (w *Workloads) index() error {
	w.byName, w.byKey = map[string]mesh.Workload{}, map[string][]Key{}
	var errs []error
	for _, f := range w.files {
		if f.err != nil {
			errs = append(errs, f.err)
		}
		if f.good == nil {
			continue
		}
		workload := f.good.AsWorkload()
		w.byName[workload.String()] = workload
		for _, k := range f.good.Keys {
			w.byKey[k.KeyID] = append(w.byKey[k.KeyID], Key{k.KeyID, workload, k.Key.(*ecdsa.PublicKey)})
		}
	}
	for id, all := range w.byKey {
		if len(all) > 1 {
			errs = append(errs, fmt.Errorf("%s: join key %q is that of %s and of %s: nobody can join with it", w.dir, id, all[0].Workload, all[1].Workload))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// refresh is Load for those who can't return its error: it is logged when it
// changes. w.mu must be held.
func (w *Workloads) refresh(maxAge time.Duration) {
	if time.Since(w.looked) < maxAge {
		return
	}
	text := ""
	if err := w.load(); err != nil {
		text = err.Error()
	}
	if text != w.told {
		w.told = text
		if text == "" {
			w.log.Info("all registrations are well-formed again")
		} else {
			w.log.Error("registrations are wrong; what they said before goes on to count", "error", text)
		}
	}
}

// SetRoles says which workloads callers can be by their AWS role.
func (w *Workloads) SetRoles(roles taskrole.Roles) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.roles = map[string]mesh.Workload{}
	for _, kind := range roles {
		for _, r := range kind.Workloads() {
			r.DiscoveryNames = slices.Sorted(slices.Values(r.DiscoveryNames))
			w.roles[roleOf(kind.KeyID(), r.String())] = r
		}
	}
}

// roleOf names a workload among those of one kind of role.
func roleOf(keyID, workload string) string { return keyID + " " + workload }

// Offers is every service that a workload may offer, sorted, each once.
func (w *Workloads) Offers() []mesh.ServiceName {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refresh(fresh)
	var all []mesh.ServiceName
	for _, from := range []map[string]mesh.Workload{w.byName, w.roles} {
		for _, v := range from {
			for _, name := range v.DiscoveryNames {
				all = append(all, mesh.ServiceName{Namespace: v.Namespace, DiscoveryName: name})
			}
		}
	}
	slices.SortFunc(all, mesh.ServiceName.Compare)
	return slices.Compact(all)
}

// Find is the workload of that namespace and name as registered now, give or
// take a second, if the join key is one of its; else why not.
func (w *Workloads) Find(namespace, name, keyID string) (mesh.Workload, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refresh(fresh)
	r := Registration{Namespace: namespace, Workload: name}
	full := r.AsWorkload().String()
	if taskrole.IsKeyID(keyID) {
		found, ok := w.roles[roleOf(keyID, full)]
		if !ok {
			return found, fmt.Errorf("workload %s has no role any more: name it in identities of the control plane's file", full)
		}
		return found, nil
	}
	found, ok := w.byName[full]
	switch {
	case !ok && w.files[r.FileName()].err != nil:
		return found, fmt.Errorf("the registration of workload %s can't be read; the control plane's log says why", full)
	case !ok:
		return found, fmt.Errorf("workload %s is not registered: run `patchbay token join` for it on the control plane's data directory", full)
	case !slices.ContainsFunc(w.byKey[keyID], func(k Key) bool { return k.Workload.String() == full }):
		return found, fmt.Errorf("join key %.80q of workload %s is not registered any more: give the task a new join directory, made by `patchbay token join`", keyID, full)
	}
	return found, nil
}

// Key finds a join key; an id that is not known makes it look again.
func (w *Workloads) Key(id string) (Key, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refresh(fresh)
	if len(w.byKey[id]) == 0 && w.strangers.Allow() {
		w.refresh(0)
	}
	switch found := w.byKey[id]; len(found) {
	case 0:
		return Key{}, fmt.Errorf("join key %.80q is not registered: run `patchbay token join` for this workload on the control plane's data directory", id)
	case 1:
		return found[0], nil
	default:
		return Key{}, fmt.Errorf("join key %.80q is registered for several workloads: make a new key with `patchbay token join --new-key`", id)
	}
}

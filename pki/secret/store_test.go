package secret_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"patchbay/internal/awsfake/secrets"
	"patchbay/internal/awsfake/wire"
	"patchbay/internal/etcdtest"
	"patchbay/pki/secret"
	"patchbay/pki/secret/secretsmanager"
)

// stores lists every implementation; a new one joins here and nowhere else.
// open returns a store over place, which a second call opens again; nil:
// it does not outlive the process.
var stores = []struct {
	name    string
	durable bool
	open    func(place string) secret.Store
}{
	{"memory", false, func(string) secret.Store { return secret.NewMemory() }},
	{"file", true, func(place string) secret.Store { return secret.NewFile(secret.FileOptions{Dir: place}) }},
	{"Secrets Manager", true, func(place string) secret.Store { return inAWS(place, secrets.Options{}) }},
	{"etcd", true, onEtcd},
	// The documents do not say which labels the first version gets.
	{"Secrets Manager, first version current", true, func(place string) secret.Store { return inAWS(place, secrets.Options{FirstIsCurrent: true}) }},
}

// cluster is the etcd of TestConformance.
var cluster atomic.Pointer[etcdtest.Server]

func onEtcd(place string) secret.Store {
	return secret.NewEtcd(secret.EtcdOptions{Client: cluster.Load().Client(), Prefix: place + "/", Key: bytes.Repeat([]byte("k"), 32)})
}

// accounts are the stand-ins for AWS, by place.
var accounts sync.Map

func inAWS(place string, o secrets.Options) secret.Store {
	server, _ := accounts.LoadOrStore(place, wire.New(wire.Options{Unlimited: true}, secrets.New(o).API()))
	cfg := aws.Config{Region: "us-east-1", HTTPClient: server.(*wire.Server).Client(), Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}
	s, err := secretsmanager.New(cfg, secretsmanager.Options{Endpoint: "http://aws", Prefix: "ecs-sc/mesh/", Interval: -1})
	if err != nil {
		panic(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	cluster.Store(etcdtest.Start(t))
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			open := func(t *testing.T) (secret.Store, string) {
				place := filepath.Join(t.TempDir(), "deep", "secrets")
				return s.open(place), place
			}
			t.Run("load what was saved", func(t *testing.T) { st, _ := open(t); loadSaved(t, st) })
			t.Run("compare and set", func(t *testing.T) { st, _ := open(t); compareAndSet(t, st) })
			t.Run("one writer wins", func(t *testing.T) { st, _ := open(t); oneWins(t, st) })
			t.Run("prepare", func(t *testing.T) { st, _ := open(t); prepare(t, st) })
			t.Run("one preparer wins", func(t *testing.T) { st, _ := open(t); onePrepares(t, st) })
			t.Run("odd names", func(t *testing.T) { st, _ := open(t); oddNames(t, st) })
			t.Run("callers own their bytes", func(t *testing.T) { st, _ := open(t); ownBytes(t, st) })
			t.Run("ends with the context", func(t *testing.T) { st, _ := open(t); endsWithContext(t, st) })
			if s.durable {
				t.Run("outlives the process", func(t *testing.T) {
					st, place := open(t)
					save(t, st, "leaf/a", 1, "v")
					if got := load(t, s.open(place), "leaf/a"); string(got.Value) != "v" {
						t.Errorf("got %q", got.Value)
					}
				})
				t.Run("a crash after preparing", func(t *testing.T) {
					st, place := open(t)
					prepared(t, st, secret.Entry{Name: "leaf/a", Generation: 1, Value: []byte("key"), For: "x"}, "key", true)
					if _, err := s.open(place).Load(t.Context(), "leaf/a"); !errors.Is(err, secret.ErrNone) {
						t.Errorf("what is prepared is seen: %v", err)
					}
					prepared(t, s.open(place), secret.Entry{Name: "leaf/a", Generation: 1, Value: []byte("other"), For: "x"}, "key", false)
					save(t, s.open(place), "leaf/a", 1, "made of key")
				})
			}
		})
	}
}

func save(t *testing.T, s secret.Store, name string, gen uint64, value string) {
	t.Helper()
	if err := s.Save(t.Context(), secret.Entry{Name: name, Generation: gen, Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, s secret.Store, name string) secret.Entry {
	t.Helper()
	e, err := s.Load(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func loadSaved(t *testing.T, s secret.Store) {
	if _, err := s.Load(t.Context(), "leaf/a"); !errors.Is(err, secret.ErrNone) {
		t.Fatalf("of an empty store: %v", err)
	}
	save(t, s, "leaf/a", 1, "one")
	save(t, s, "leaf/b", 1, "")
	save(t, s, "leaf/a", 2, "two")
	want := secret.Entry{Name: "leaf/a", Generation: 2, Value: []byte("two")}
	if diff := cmp.Diff(want, load(t, s, "leaf/a")); diff != "" {
		t.Error(diff)
	}
	if b := load(t, s, "leaf/b"); len(b.Value) != 0 || b.Generation != 1 {
		t.Errorf("%v holds %q", b, b.Value)
	}
}

func compareAndSet(t *testing.T, s secret.Store) {
	for _, gen := range []uint64{0, 2} {
		err := s.Save(t.Context(), secret.Entry{Name: "x", Generation: gen, Value: []byte("v")})
		if !errors.Is(err, secret.ErrConflict) {
			t.Errorf("generation %d first: %v", gen, err)
		}
	}
	save(t, s, "x", 1, "one")
	for _, gen := range []uint64{0, 1, 3} {
		err := s.Save(t.Context(), secret.Entry{Name: "x", Generation: gen, Value: []byte("bad")})
		if !errors.Is(err, secret.ErrConflict) {
			t.Errorf("generation %d after 1: %v", gen, err)
		}
	}
	if e := load(t, s, "x"); string(e.Value) != "one" || e.Generation != 1 {
		t.Errorf("%v holds %q", e, e.Value)
	}
}

// oneWins races writers over ten generations: each has exactly one winner,
// and what is stored is the winner's.
func oneWins(t *testing.T, s secret.Store) {
	for gen := uint64(1); gen <= 10; gen++ {
		var wins atomic.Int32
		var winner atomic.Value
		var all sync.WaitGroup
		for w := range 8 {
			all.Go(func() {
				v := fmt.Sprintf("writer %d of %d", w, gen)
				err := s.Save(t.Context(), secret.Entry{Name: "raced", Generation: gen, Value: []byte(v)})
				if err == nil {
					wins.Add(1)
					winner.Store(v)
				} else if !errors.Is(err, secret.ErrConflict) {
					t.Errorf("loser: %v", err)
				}
			})
		}
		all.Wait()
		if e := load(t, s, "raced"); wins.Load() != 1 || string(e.Value) != winner.Load() || e.Generation != gen {
			t.Fatalf("generation %d: %d winners, stored %v", gen, wins.Load(), e)
		}
	}
}

func prepared(t *testing.T, s secret.Store, e secret.Entry, want string, wantMine bool) {
	t.Helper()
	got, mine, err := s.Prepare(t.Context(), e)
	if err != nil || mine != wantMine || string(got.Value) != want || got.Generation != e.Generation || got.For != e.For || got.Name != e.Name {
		t.Errorf("prepared %v holds %q, mine %v, %v; want %q, %v", got, got.Value, mine, err, want, wantMine)
	}
}

func prepare(t *testing.T, s secret.Store) {
	e := func(gen uint64, value, purpose string) secret.Entry {
		return secret.Entry{Name: "x", Generation: gen, Value: []byte(value), For: purpose}
	}
	conflict := func(gen uint64) {
		t.Helper()
		if _, _, err := s.Prepare(t.Context(), e(gen, "v", "p")); !errors.Is(err, secret.ErrConflict) {
			t.Errorf("generation %d: %v", gen, err)
		}
	}
	conflict(0)
	conflict(2)
	prepared(t, s, e(1, "one", "p"), "one", true)
	prepared(t, s, e(1, "two", "p"), "one", false)
	prepared(t, s, e(1, "other", "q"), "other", true)
	if _, err := s.Load(t.Context(), "x"); !errors.Is(err, secret.ErrNone) {
		t.Errorf("what is prepared is seen: %v", err)
	}
	save(t, s, "x", 1, "made")
	conflict(1)
	prepared(t, s, e(2, "two", "p"), "two", true)
	if got := load(t, s, "x"); string(got.Value) != "made" || got.Generation != 1 || got.For != "" {
		t.Errorf("%v holds %q", got, got.Value)
	}
	prepared(t, s, e(2, "late", "p"), "two", false)
	save(t, s, "x", 2, "made again")
	save(t, s, "x", 3, "without preparing")
	prepared(t, s, e(4, "four", "p"), "four", true)
}

// onePrepares races preparers over ten generations: all get the one value.
func onePrepares(t *testing.T, s secret.Store) {
	for gen := uint64(1); gen <= 10; gen++ {
		var mine atomic.Int32
		values := make([]string, 8)
		var all sync.WaitGroup
		for w := range values {
			all.Go(func() {
				got, won, err := s.Prepare(t.Context(), secret.Entry{Name: "raced", Generation: gen, Value: fmt.Appendf(nil, "writer %d", w), For: "p"})
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
				if won {
					mine.Add(1)
				}
				values[w] = string(got.Value)
			})
		}
		all.Wait()
		for _, v := range values[1:] {
			if v != values[0] {
				t.Fatalf("generation %d: %q", gen, values)
			}
		}
		if mine.Load() != 1 {
			t.Fatalf("generation %d: %d winners", gen, mine.Load())
		}
		save(t, s, "raced", gen, "made")
	}
}

func oddNames(t *testing.T, s secret.Store) {
	names := []string{
		"bundle/arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/0f-1", "bundle/default",
		"../../etc/x", "..", "a/b", "a%2Fb", "a", "A",
		strings.Repeat("long/", 100) + "1", strings.Repeat("long/", 100) + "2",
	}
	for _, n := range names {
		save(t, s, n, 1, "of "+n)
	}
	for _, n := range names {
		if e := load(t, s, n); string(e.Value) != "of "+n {
			t.Errorf("%q holds %q", n, e.Value)
		}
	}
}

func ownBytes(t *testing.T, s secret.Store) {
	v := []byte("mine")
	if err := s.Save(t.Context(), secret.Entry{Name: "x", Generation: 1, Value: v}); err != nil {
		t.Fatal(err)
	}
	v[0] = 'X'
	load(t, s, "x").Value[1] = 'X'
	if e := load(t, s, "x"); string(e.Value) != "mine" {
		t.Errorf("got %q", e.Value)
	}
}

func endsWithContext(t *testing.T, s secret.Store) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := s.Load(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("load: %v", err)
	}
	if err := s.Save(ctx, secret.Entry{Name: "x", Generation: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("save: %v", err)
	}
	if _, _, err := s.Prepare(ctx, secret.Entry{Name: "x", Generation: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("prepare: %v", err)
	}
}

func TestEntryHidesItsValue(t *testing.T) {
	var out bytes.Buffer
	e := secret.Entry{Name: "leaf/a", Generation: 3, Value: []byte("topsecret")}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "entry", e)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "entry", e)
	fmt.Fprintf(&out, "%v %+v %#v %s", e, e, e, e)
	if s := out.String(); strings.Contains(s, "topsecret") || strings.Contains(s, "116 111 112") || strings.Contains(s, "dG9wc2") {
		t.Errorf("told: %s", s)
	}
	if !strings.Contains(out.String(), "leaf/a generation 3") {
		t.Errorf("says too little: %s", out.String())
	}
}

// secretFile is the one file of a name in dir.
func secretFile(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[0]
}

func TestFileModesAndNoPlainText(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	save(t, secret.NewFile(secret.FileOptions{Dir: dir}), "leaf/a", 1, "topsecret")
	for path, want := range map[string]os.FileMode{dir: 0o700, dir + ".key": 0o600, secretFile(t, dir, "leaf*.secret"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o; want %04o", path, got, want)
		}
	}
	text, err := os.ReadFile(secretFile(t, dir, "leaf*.secret"))
	if err != nil || bytes.Contains(text, []byte("topsecret")) || bytes.Contains(text, []byte("dG9wc2VjcmV0")) {
		t.Errorf("%v: %s", err, text)
	}
}

func TestFileCorrupt(t *testing.T) {
	for name, damage := range map[string]func(text []byte) []byte{
		"cut":              func(b []byte) []byte { return b[:len(b)/2] },
		"empty":            func([]byte) []byte { return nil },
		"other generation": func(b []byte) []byte { return bytes.Replace(b, []byte(`"generation":1`), []byte(`"generation":7`), 1) },
		"other name":       func(b []byte) []byte { return bytes.Replace(b, []byte("leaf/a"), []byte("leaf/b"), 1) },
		"one bit":          func(b []byte) []byte { b[len(b)-10] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "secrets")
			st := secret.NewFile(secret.FileOptions{Dir: dir})
			save(t, st, "leaf/a", 1, "v")
			path := secretFile(t, dir, "leaf*.secret")
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			bad := damage(bytes.Clone(text))
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = st.Load(t.Context(), "leaf/a")
			aside := secretFile(t, dir, "*.corrupt-*")
			if !errors.Is(err, secret.ErrCorrupt) || !strings.Contains(err.Error(), aside) {
				t.Errorf("got %v; it is %s", err, aside)
			}
			if kept, _ := os.ReadFile(aside); !bytes.Equal(kept, bad) {
				t.Error("the file put aside is not the one that was there")
			}
			if _, err := st.Load(t.Context(), "leaf/a"); !errors.Is(err, secret.ErrNone) {
				t.Errorf("afterwards: %v", err)
			}
			save(t, st, "leaf/a", 1, "again")
		})
	}
}

func TestFileSwappedSecrets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	st := secret.NewFile(secret.FileOptions{Dir: dir})
	save(t, st, "leaf/a", 1, "of a")
	save(t, st, "leaf/b", 1, "of b")
	text, err := os.ReadFile(secretFile(t, dir, "leaf*a.secret"))
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte(`"leaf/a"`), []byte(`"leaf/b"`), 1)
	if err := os.WriteFile(secretFile(t, dir, "leaf*b.secret"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if e, err := st.Load(t.Context(), "leaf/b"); !errors.Is(err, secret.ErrCorrupt) {
		t.Errorf("b holds %q, %v", e.Value, err)
	}
}

func TestFileOtherKeyTouchesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	save(t, secret.NewFile(secret.FileOptions{Dir: dir}), "leaf/a", 1, "v")
	other := secret.NewFile(secret.FileOptions{Dir: dir, Key: bytes.Repeat([]byte{7}, 32)})
	if _, err := other.Load(t.Context(), "leaf/a"); !errors.Is(err, secret.ErrOtherKey) {
		t.Errorf("load: %v", err)
	}
	for _, gen := range []uint64{1, 2} {
		err := other.Save(t.Context(), secret.Entry{Name: "leaf/a", Generation: gen, Value: []byte("x")})
		if !errors.Is(err, secret.ErrOtherKey) {
			t.Errorf("save: %v", err)
		}
	}
	if e := load(t, secret.NewFile(secret.FileOptions{Dir: dir}), "leaf/a"); string(e.Value) != "v" {
		t.Errorf("got %q", e.Value)
	}
}

func TestFileKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	st := secret.NewFile(secret.FileOptions{Dir: dir})
	save(t, st, "a", 1, "v")
	text, err := os.ReadFile(dir + ".key")
	if err != nil {
		t.Fatal(err)
	}
	key, err := secret.ParseKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if e := load(t, secret.NewFile(secret.FileOptions{Dir: dir, Key: key}), "a"); string(e.Value) != "v" {
		t.Errorf("got %q", e.Value)
	}
	if _, err := secret.ParseKey("c2hvcnQ="); err == nil || strings.Contains(err.Error(), "c2hvcnQ") {
		t.Errorf("short key: %v", err)
	}
	if err := os.Chmod(dir+".key", 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = secret.NewFile(secret.FileOptions{Dir: dir}).Load(t.Context(), "a")
	if err == nil || !strings.Contains(err.Error(), "0644") || !strings.Contains(err.Error(), dir+".key") {
		t.Errorf("readable key: %v", err)
	}
}

// Two stores over one directory are two processes as far as locks go.
func TestFileTwoProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	var wins atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			st := secret.NewFile(secret.FileOptions{Dir: dir})
			if err := st.Save(t.Context(), secret.Entry{Name: "x", Generation: 1, Value: []byte("v")}); err == nil {
				wins.Add(1)
			} else if !errors.Is(err, secret.ErrConflict) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d winners", wins.Load())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What can't be read is put aside, what needs another key stays.
func TestEtcdRefusesWhatItCannotRead(t *testing.T) {
	e := etcdtest.Start(t)
	c := e.Client()
	open := func(key string) secret.Store {
		return secret.NewEtcd(secret.EtcdOptions{Client: c, Prefix: "/s/", Key: bytes.Repeat([]byte(key), 32)})
	}
	st := open("k")
	save(t, st, "leaf/a", 1, "the value")
	if _, err := open("o").Load(t.Context(), "leaf/a"); !errors.Is(err, secret.ErrOtherKey) {
		t.Errorf("another key: %v", err)
	}
	kept, err := c.Get(t.Context(), "/s/secret/leaf/a")
	if err != nil || len(kept.Kvs) != 1 || bytes.Contains(kept.Kvs[0].Value, []byte("the value")) {
		t.Fatalf("in etcd: %v, %v", kept, err)
	}
	if _, err := c.Put(t.Context(), "/s/secret/leaf/b", string(bytes.Replace(kept.Kvs[0].Value, []byte("leaf/a"), []byte("leaf/b"), 1))); err != nil {
		t.Fatal(err)
	}
	if got, err := st.Load(t.Context(), "leaf/b"); !errors.Is(err, secret.ErrCorrupt) || !strings.Contains(err.Error(), "/s/corrupt/leaf/b/") {
		t.Errorf("moved from a to b: %q, %v", got.Value, err)
	}
	save(t, st, "leaf/b", 1, "anew")
	e.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := st.Load(ctx, "leaf/a"); err == nil || errors.Is(err, secret.ErrNone) {
		t.Errorf("without etcd: %v", err)
	}
}

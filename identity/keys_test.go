package identity

import (
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"patchbay/identity/durable"
	"patchbay/identity/join"
	"patchbay/identity/registered"
	"patchbay/identity/taskrole"
	"patchbay/mesh"
)

func TestBrokenIdentityFileKeepsItsWorkload(t *testing.T) {
	s := newStand(t)
	w := registered.New(registered.Dir(s.data), slog.New(slog.DiscardHandler))
	if err := w.Load(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(registered.Dir(s.data), "backend@demo.json"), []byte(`{"namespace": "demo", "workload": "backend", "discoveryNames": ["-"], "keys": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	err := w.Load()
	if err == nil || !strings.Contains(err.Error(), "backend@demo.json: discoveryName") || !strings.Contains(err.Error(), "keys: is empty") {
		t.Errorf("the error is %v", err)
	}
	if got, err := w.Find("demo", "backend", s.joins["backend"].KeyID); err != nil || len(got.DiscoveryNames) != 2 {
		t.Errorf("backend is %v %v", got, err)
	}
	os.Remove(filepath.Join(registered.Dir(s.data), "backend@demo.json"))
	if err := w.Load(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Find("demo", "backend", s.joins["backend"].KeyID); err == nil {
		t.Error("a removed workload is still registered")
	}
}

func TestMakeJoinIsIdempotent(t *testing.T) {
	r := JoinRequest{Data: t.TempDir(), TrustDomain: domain, Workload: mesh.Workload{Namespace: "demo", Name: "w", DiscoveryNames: []string{"b", "a"}}, Out: filepath.Join(t.TempDir(), "j")}
	first, err := MakeJoin(r)
	if err != nil || len(first.Changed) != 5 {
		t.Fatal(first.Changed, err)
	}
	if again, err := MakeJoin(r); err != nil || len(again.Changed) > 0 || again.Info.KeyID != first.Info.KeyID {
		t.Errorf("again: %v %v", again, err)
	}
	if st, err := os.Stat(filepath.Join(r.Out, join.KeyFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v %v", st, err)
	}
	r.Workload.DiscoveryNames = []string{"a"}
	if other, err := MakeJoin(r); err != nil || len(other.Changed) != 2 || other.Info.KeyID != first.Info.KeyID {
		t.Errorf("other names: %v %v", other, err)
	}
	_, err = MakeJoin(JoinRequest{TrustDomain: "a b", Workload: mesh.Workload{DiscoveryNames: []string{"-"}}})
	for _, want := range []string{"namespace", "trust domain", "discoveryName", "data:", "out:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing says %q: %v", want, err)
		}
	}
}

func request(t *testing.T, namespace, workload string, names ...string) JoinRequest {
	t.Helper()
	return JoinRequest{Data: t.TempDir(), Workload: mesh.Workload{Namespace: namespace, Name: workload, DiscoveryNames: names}, Out: filepath.Join(t.TempDir(), "j")}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestJoinByRoleOfNobody: a directory that no control plane has is not taken
// for one by accident.
func TestJoinByRoleOfNobody(t *testing.T) {
	r := request(t, "demo", "w", "a")
	r.ByRole, r.TrustDomain = taskrole.KeyID, ""
	if _, err := MakeJoin(r); !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), "is the data directory of no control plane") {
		t.Error(err)
	}
	r.TrustDomain = domain
	first, err := MakeJoin(r)
	if err != nil || !first.NewCA {
		t.Errorf("%+v, %v", first, err)
	}
	r.TrustDomain = ""
	if again, err := MakeJoin(r); err != nil || again.NewCA {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestJoinByRole: a directory without a key registers nothing, and stays one.
func TestJoinByRole(t *testing.T) {
	r := request(t, "demo", "w", "a")
	r.ByRole, r.TrustDomain = taskrole.KeyID, domain
	first, err := MakeJoin(r)
	must(t, err)
	d, err := join.Load(r.Out)
	if err != nil || !d.ByRole() || d.ByInstance() || first.Info.KeyID != "task-role" || len(first.Changed) != 3 {
		t.Errorf("%v, %v, %v", d, first, err)
	}
	if _, err := os.Lstat(filepath.Join(r.Out, join.KeyFile)); err == nil {
		t.Error("it has a key")
	}
	if all, err := registered.All(r.Data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("registered: %v, %v", all, err)
	}
	if again, err := MakeJoin(r); err != nil || len(again.Changed) > 0 {
		t.Errorf("again: %v, %v", again.Changed, err)
	}
	r.ByRole = taskrole.InstanceKeyID
	if done, err := MakeJoin(r); err != nil || done.Info.KeyID != "instance-role" {
		t.Errorf("of instances: %v, %v", done, err)
	}
	if d, err := join.Load(r.Out); err != nil || !d.ByRole() || !d.ByInstance() {
		t.Errorf("of instances: %v, %v", d, err)
	}
	r.NewKey = true
	if _, err := MakeJoin(r); !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), "joins by its role has none") {
		t.Errorf("with a new key: %v", err)
	}
	r.NewKey, r.Workload.Name = false, "other"
	if _, err := MakeJoin(r); err == nil || !strings.Contains(err.Error(), "is the join directory of demo/w") {
		t.Errorf("another's directory: %v", err)
	}
	keyed := request(t, "demo", "w")
	_, err = MakeJoin(keyed)
	must(t, err)
	keyed.ByRole = taskrole.KeyID
	if _, err := MakeJoin(keyed); err == nil || !strings.Contains(err.Error(), "holds a join key") {
		t.Errorf("a directory with a key: %v", err)
	}
}

func TestNewKey(t *testing.T) {
	r := request(t, "demo", "w")
	first, err := MakeJoin(r)
	must(t, err)
	r.NewKey = true
	second, err := MakeJoin(r)
	must(t, err)
	all, err := registered.All(r.Data)
	must(t, err)
	if len(all) != 1 || len(all[0].Keys) != 2 || !all[0].Has(first.Info.KeyID) || !all[0].Has(second.Info.KeyID) {
		t.Errorf("registered: %v", all)
	}
	r.NewKey = false
	if again, err := MakeJoin(r); err != nil || len(again.Changed) > 0 || again.Info.KeyID != second.Info.KeyID {
		t.Errorf("without asking for one: %v %v", again, err)
	}
	for _, c := range []struct {
		key  string
		did  bool
		text string
	}{{first.Info.KeyID, true, ""}, {first.Info.KeyID, false, ""}, {second.Info.KeyID, false, "its only one"}, {"", true, ""}, {"", false, ""}} {
		did, err := Withdraw(r.Data, "demo", "w", c.key)
		if did != c.did || (err != nil) != (c.text != "") || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("withdraw %q: %v %v", c.key, did, err)
		}
	}
	// A directory whose key was withdrawn gets a new one.
	if again, err := MakeJoin(r); err != nil || again.Info.KeyID == second.Info.KeyID {
		t.Errorf("after it was withdrawn: %v %v", again, err)
	}
}

// TestNamesThatLookAlike: the names of two workloads never lead to one file.
func TestNamesThatLookAlike(t *testing.T) {
	r := request(t, "a.b", "c", "x")
	_, err := MakeJoin(r)
	must(t, err)
	r.Workload, r.Out = mesh.Workload{Namespace: "a", Name: "b.c"}, filepath.Join(t.TempDir(), "k")
	_, err = MakeJoin(r)
	must(t, err)
	all, err := registered.All(r.Data)
	if err != nil || len(all) != 2 || len(all[0].Keys) != 1 || len(all[1].Keys) != 1 {
		t.Errorf("registered: %v %v", all, err)
	}
}

func TestMakeJoinAtTheSameTime(t *testing.T) {
	r := request(t, "demo", "w")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := MakeJoin(r); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got, err := registered.All(r.Data); err != nil || len(got) != 1 || len(got[0].Keys) != 1 {
		t.Errorf("registered: %v %v", got, err)
	}
}

// TestMakeJoinKeepsWhatIsNotItsOwn: where it must not write, it changes nothing
// and says what to do.
func TestMakeJoinKeepsWhatIsNotItsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(r *JoinRequest) error
		want  string
	}{
		"directory of another workload": {func(r *JoinRequest) error { r.Workload.Name = "other"; return nil }, "is the join directory of demo/w, not of demo/other: use another directory"},
		"foreign files": {func(r *JoinRequest) error {
			r.Out = filepath.Join(filepath.Dir(r.Out), "etc")
			return errors.Join(os.Mkdir(r.Out, 0o700), os.WriteFile(filepath.Join(r.Out, "ca.pem"), []byte("mine"), 0o600))
		}, "belongs to something else"},
		"damaged registration": {func(r *JoinRequest) error {
			return os.WriteFile(filepath.Join(registered.Dir(r.Data), "w@demo.json"), []byte("{\n}}"), 0o600)
		}, "w@demo.json: line 2"},
		"other trust domain":   {func(r *JoinRequest) error { r.TrustDomain = "other"; return nil }, `is that of trust domain "patchbay", not of "other"`},
		"a file for directory": {func(r *JoinRequest) error { r.Out = filepath.Join(r.Out, "join.json"); return nil }, "join.json"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "demo", "w")
			_, err := MakeJoin(r)
			must(t, err)
			must(t, c.spoil(&r))
			before := tree(t, r.Data, filepath.Dir(r.Out))
			if _, err := MakeJoin(r); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v", err)
			}
			if after := tree(t, r.Data, filepath.Dir(r.Out)); !maps.Equal(before, after) {
				t.Errorf("files were %v, are %v", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
			}
		})
	}
}

func tree(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range dirs {
		must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			all[path] = string(text)
			return err
		}))
	}
	return all
}

// TestOwners: what root makes in a data directory belongs to the directory's
// owner, and what it makes elsewhere to root; nobody else may read any of it.
func TestOwners(t *testing.T) {
	r := request(t, "demo", "w")
	owner := os.Geteuid()
	if owner == 0 {
		owner = 65532
		must(t, os.Chown(r.Data, owner, owner))
	}
	_, err := MakeJoin(r)
	must(t, err)
	if u, err := durable.OpenOnce(filepath.Join(ControlDir(r.Data), "used-proofs"), time.Now()); err != nil {
		t.Error(err)
	} else if _, err := u.Claim("1", time.Now(), time.Now()); err != nil {
		t.Error(err)
	}
	for dir, want := range map[string]int{r.Data: owner, r.Out: os.Geteuid()} {
		must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := d.Info()
			if err != nil {
				return err
			}
			if got := int(st.Sys().(*syscall.Stat_t).Uid); got != want {
				t.Errorf("%s belongs to %d, not to %d", path, got, want)
			}
			if open := st.Mode().Perm() & 0o077; open != 0 && path != r.Data && !strings.HasSuffix(path, "control/ca.pem") {
				t.Errorf("%s has mode %v", path, st.Mode())
			}
			return nil
		}))
	}
	// A key that somebody opened is closed again.
	must(t, os.Chmod(filepath.Join(r.Out, join.KeyFile), 0o644))
	if done, err := MakeJoin(r); err != nil || len(done.Changed) != 1 {
		t.Errorf("%v %v", done, err)
	}
	if st, err := os.Stat(filepath.Join(r.Out, join.KeyFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v %v", st, err)
	}
}

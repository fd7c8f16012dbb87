package etcd

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"patchbay/internal/etcdclient"
	"patchbay/internal/etcdtest"
	"patchbay/registry/store"
)

const user, password = "patchbay", "a password"

// asUser are the options of a client that has a password, and a certificate
// that is nobody's.
func asUser(t *testing.T, c *etcdtest.Cluster, password string) etcdclient.Options {
	t.Helper()
	o := c.As("anybody")
	o.User, o.PasswordFile = user, filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(o.PasswordFile, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestCluster: three members with TLS and users. Replicas that are known by
// their certificate and by a password see each other's writes, and the loss of
// the leader loses nothing, also not a sign of life.
func TestCluster(t *testing.T) {
	c := etcdtest.StartCluster(t)
	c.Restrict(user, password, "/test/registry/")
	byPassword, err := etcdclient.Dial(t.Context(), asUser(t, c, password), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { byPassword.Close() })
	a, b := newReplica(t, c.Client(user)), newReplica(t, byPassword)
	a.write(func() []store.Change { return []store.Change{put("a", "x", "0")} })
	b.until("the first", func() bool { return b.rows["a/x"] == "0" })
	if err := a.Beat("x", time.Minute); err != nil {
		t.Fatal(err)
	}
	c.Leader().Kill()
	for i := range 20 {
		w, r := a, b
		if i%2 == 1 {
			w, r = b, a
		}
		w.insist(func() []store.Change {
			return []store.Change{put("a", "x", fmt.Sprint(i)), put("entries", fmt.Sprint(i), "")}
		})
		r.until("a write without the leader", func() bool { return r.rows["a/x"] == fmt.Sprint(i) })
	}
	if left, err := b.Heard("x", time.Minute); err != nil || left <= 0 {
		t.Errorf("a heartbeat did not survive the leader: %s left, %v", left, err)
	}
	if len(a.rows) != 21 || !maps.Equal(a.rows, b.rows) {
		t.Errorf("%d and %d rows of 21", len(a.rows), len(b.rows))
	}
}

// insist writes as a client of the registry does, which is told that the store
// can't be reached while the members elect a leader.
func (r *replica) insist(changes func() []store.Change) {
	r.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; {
		r.pull()
		c := changes()
		err := r.Apply(c)
		if err == nil {
			r.own(c...)
			return
		}
		if time.Now().After(end) || !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrConflict) {
			r.t.Fatal(err)
		}
	}
}

// TestWhatIsWrong: each way not to be let in is told apart, with what to do.
func TestWhatIsWrong(t *testing.T) {
	c, other := etcdtest.StartCluster(t), etcdtest.NewAuthority(t)
	with := func(change func(*etcdclient.Options)) etcdclient.Options {
		o := c.As(user)
		change(&o)
		return o
	}
	foreignCert, foreignKey := other.Certificate("patchbay")
	patience := 200 * time.Millisecond // who is not let in waits in vain
	check := func(name string, o etcdclient.Options, prefix, want string) {
		t.Run(name, func(t *testing.T) {
			o.Prefix = prefix
			guide := etcdclient.NewGuide(o)
			client, err := etcdclient.Dial(t.Context(), o, nil)
			if err == nil {
				t.Cleanup(func() { client.Close() })
				s := New(Options{Client: client, Prefix: prefix, Patience: patience, Explain: guide.Explain})
				err = s.Load(func(string, string, []byte) error { return nil })
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v; want %q", err, want)
			}
		})
	}
	check("another CA", with(func(o *etcdclient.Options) { o.CAFile = other.CAFile }), "/a/", "has a certificate of another CA; compare caFile")
	check("no certificate", with(func(o *etcdclient.Options) { o.CertFile, o.KeyFile = "", "" }), "/a/", "does not take our certificate; compare certFile")
	check("a certificate of another CA", with(func(o *etcdclient.Options) { o.CertFile, o.KeyFile = foreignCert, foreignKey }), "/a/", "does not take our certificate; compare certFile")
	check("nobody there", with(func(o *etcdclient.Options) { o.Endpoints = []string{"https://127.0.0.1:1"} }), "/a/", "127.0.0.1:1: connect: connection refused")
	check("not TLS", etcdclient.Options{Endpoints: []string{strings.Replace(c.Members[0].URL, "https:", "http:", 1)}}, "/a/", "it probably wants TLS: https://")
	c.Restrict(user, password, "/test/registry/")
	patience = time.Minute
	check("another's keys", c.As(user), "/other/", "etcdctl role grant-permission ROLE --prefix=true readwrite /other/")
	check("nobody's certificate", c.As("stranger"), "/test/registry/", "etcdctl role grant-permission")
	check("another password", asUser(t, c, "guessed"), "/test/registry/", "compare user and passwordFile")
}

package pki

import (
	"context"
	"strings"
	"testing"
	"time"

	"patchbay/mesh"
	"patchbay/pki/secret"
)

// underKeys notes the KMS key of each generation, and refuses those that nobody
// may use.
type underKeys struct {
	secret.Store
	keys    []string
	refused string
}

func (u *underKeys) Prepare(ctx context.Context, e secret.Entry) (secret.Entry, bool, error) {
	if e.KMSKey == u.refused && e.KMSKey != "" {
		return secret.Entry{}, false, errDisk
	}
	return u.Store.Prepare(ctx, e)
}

func (u *underKeys) Save(ctx context.Context, e secret.Entry) error {
	if strings.HasPrefix(e.Name, "leaf/") {
		u.keys = append(u.keys, e.KMSKey)
	}
	return u.Store.Save(ctx, e)
}

func svcUnder(key string) *mesh.Service {
	s := svc("a")
	s.TLS.KMSKey = key
	return s
}

// A service that asks for another KMS key gets a certificate under it at once,
// and none more after a restart; under a key that can't be used it keeps what it
// has.
func TestAnotherKMSKeyIsAnotherCertificate(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		store := &underKeys{Store: w.secrets, refused: "alias/off"}
		w.secrets, w.o.KMSKeys = store, true
		w.store.SetServices("prod", []*mesh.Service{svcUnder("alias/one")})
		w.start()
		w.pass(time.Minute)
		first := w.leaf("a").Serial
		w.restart()
		w.pass(time.Minute)
		if got := w.leaf("a").Serial; got != first {
			t.Errorf("after a restart: %s instead of %s", got, first)
		}
		w.store.SetServices("prod", []*mesh.Service{svcUnder("alias/off")})
		w.pass(5 * time.Minute)
		if st := w.status("a"); st.Serial != first || st.LastError == "" || st.NotStored != "" {
			t.Errorf("under a key that can't be used: %+v", st)
		}
		w.store.SetServices("prod", []*mesh.Service{svcUnder("alias/two")})
		w.pass(time.Minute)
		if got := w.leaf("a").Serial; got == first {
			t.Error("another key, and the same certificate")
		}
		w.store.SetServices("prod", []*mesh.Service{svcUnder("")})
		w.pass(time.Minute)
		if got := strings.Join(store.keys, " "); got != "alias/one alias/two " {
			t.Errorf("saved under %q", got)
		}
		if strings.Contains(w.log.String(), "has no effect") {
			t.Error("it was said to have no effect")
		}
	})
}

// Where no store has such keys the log says so, once.
func TestAKMSKeyWithoutAStoreForIt(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svcUnder("alias/one")})
		w.start()
		w.pass(time.Hour)
		if n := strings.Count(w.log.String(), "tls.kmsKey has no effect"); n != 1 {
			t.Errorf("said %d times", n)
		}
	})
}

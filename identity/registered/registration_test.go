package registered

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"patchbay/identity/join"
)

// FuzzRegistration: what is accepted is whole, says the same when it is written
// again, and holds no private key.
func FuzzRegistration(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	if err := Write(dir, Registration{Namespace: "demo", Workload: "w", DiscoveryNames: []string{"a"}, Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: join.KeyID(&key.PublicKey)}}}); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "w@demo.json"))
	if err != nil {
		f.Fatal(err)
	}
	if _, errs := parse(good, "w@demo.json"); errs != nil {
		f.Fatal(errs)
	}
	f.Add(good)
	f.Add([]byte(`{"namespace":"demo","workload":"w","discoveryNames":null,"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, errs := parse(text, "w@demo.json")
		if errs != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil || bytes.Contains(again, []byte(`"d":`)) {
			t.Fatalf("%s: %v", again, err)
		}
		if second, errs := parse(again, "w@demo.json"); errs != nil || len(second.Keys) != len(r.Keys) || second.AsWorkload().String() != "demo/w" {
			t.Fatalf("%s: %v", again, errs)
		}
	})
}

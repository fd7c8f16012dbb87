package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"patchbay/identity/durable"
	"patchbay/identity/join"
	"patchbay/mesh"
)

// Registration is one file of DATA/identities: a workload, what it may offer,
// and the public halves of its join keys.
type Registration struct {
	Namespace      string            `json:"namespace"`
	Workload       string            `json:"workload"`
	DiscoveryNames []string          `json:"discoveryNames"`
	Keys           []jose.JSONWebKey `json:"keys"`
}

// AsWorkload is the registration in the mesh's words.
func (r Registration) AsWorkload() mesh.Workload {
	names := slices.Sorted(slices.Values(r.DiscoveryNames))
	return mesh.Workload{Namespace: r.Namespace, Name: r.Workload, DiscoveryNames: slices.Compact(names)}
}

// FileName is where the registration of a workload stands; no name of either
// holds an @.
func (r Registration) FileName() string { return r.Workload + "@" + r.Namespace + ".json" }

func (r Registration) has(keyID string) bool {
	return slices.ContainsFunc(r.Keys, func(k jose.JSONWebKey) bool { return k.KeyID == keyID })
}

// readRegistration returns a good registration, or everything that is wrong
// with its file.
func readRegistration(file string) (Registration, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Registration{}, fmt.Errorf("read identity: %w", err)
	}
	r, errs := parseRegistration(text, filepath.Base(file))
	for i, err := range errs {
		errs[i] = fmt.Errorf("%s: %w", file, err)
	}
	return r, errors.Join(errs...)
}

func parseRegistration(text []byte, name string) (r Registration, errs []error) {
	var keys []json.RawMessage
	errs = join.Object(text, map[string]any{
		"namespace": &r.Namespace, "workload": &r.Workload, "discoveryNames": &r.DiscoveryNames, "keys": &keys,
	})
	if errs != nil {
		return r, errs
	}
	errs = join.ValidWorkload(r.AsWorkload())
	if name != r.FileName() {
		errs = append(errs, fmt.Errorf("holds %s, whose file is %s", r.AsWorkload(), r.FileName()))
	}
	if len(keys) == 0 {
		errs = append(errs, errors.New("keys: is empty; allowed: public P-256 keys (JWK)"))
	}
	seen := map[string]bool{}
	for i, raw := range keys {
		var k jose.JSONWebKey
		err := k.UnmarshalJSON(raw)
		p, ok := k.Key.(*ecdsa.PublicKey)
		switch {
		case err != nil || !ok || p.Curve != elliptic.P256():
			errs = append(errs, fmt.Errorf("keys[%d]: allowed: a public P-256 key (JWK)", i))
		case k.KeyID != join.KeyID(p):
			errs = append(errs, fmt.Errorf("keys[%d].kid: %.80q; allowed: the key's thumbprint, which is %q", i, k.KeyID, join.KeyID(p)))
		case seen[k.KeyID]:
			errs = append(errs, fmt.Errorf("keys[%d].kid: %q stands twice", i, k.KeyID))
		}
		seen[k.KeyID] = true
		r.Keys = append(r.Keys, k)
	}
	return r, errs
}

func writeRegistration(dir string, r Registration) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, r.FileName()), append(text, '\n'), 0o600)
}

// lockRegistrations makes the directory of registrations if it is not there,
// and holds it against other writers. Readers need no lock.
func lockRegistrations(data string) (func(), error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	if err := durable.MakeDir(IdentitiesDir(data)); err != nil {
		return nil, err
	}
	return durable.Lock(filepath.Join(IdentitiesDir(data), "lock"))
}

// IdentitiesDir is where registrations stand below a data directory.
func IdentitiesDir(data string) string { return filepath.Join(data, "identities") }

// ControlDir holds the control channel's CA and its record of used proofs.
func ControlDir(data string) string { return filepath.Join(data, "control") }

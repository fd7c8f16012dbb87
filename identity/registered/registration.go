// Package registered is who may join by a join key: the files of DATA/identities,
// with the workloads, what each may offer, and the public halves of its keys.
//
// It owns the form of these files, who may write them at a time, and what holds
// while one of them is wrong or changes. It must not know proofs nor
// certificates: whoever has checked one asks here whose it is. Start reading at
// [Workloads].
package registered

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

// Has reports whether a key is one of the workload's.
func (r Registration) Has(keyID string) bool {
	return slices.ContainsFunc(r.Keys, func(k jose.JSONWebKey) bool { return k.KeyID == keyID })
}

// Read returns a good registration, or everything that is wrong with its file.
func Read(file string) (Registration, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Registration{}, fmt.Errorf("read identity: %w", err)
	}
	r, errs := parse(text, filepath.Base(file))
	for i, err := range errs {
		errs[i] = fmt.Errorf("%s: %w", file, err)
	}
	return r, errors.Join(errs...)
}

func parse(text []byte, name string) (r Registration, errs []error) {
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

// Write puts a registration into the directory, in place of the one that was there.
func Write(dir string, r Registration) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, r.FileName()), append(text, '\n'), 0o600)
}

// Lock makes the directory of registrations if it is not there,
// and holds it against other writers. Readers need no lock.
func Lock(data string) (func(), error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	if err := durable.MakeDir(Dir(data)); err != nil {
		return nil, err
	}
	return durable.Lock(filepath.Join(Dir(data), "lock"))
}

// Dir is where registrations stand below a data directory.
func Dir(data string) string { return filepath.Join(data, "identities") }

// All lists the registrations of a data directory by name. The error
// names every file that is wrong; the others are listed nevertheless.
func All(data string) ([]Registration, error) {
	entries, err := os.ReadDir(Dir(data))
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	var all []Registration
	var errs []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		r, err := Read(filepath.Join(Dir(data), e.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Registration) int { return cmp.Compare(a.AsWorkload().String(), b.AsWorkload().String()) })
	return all, errors.Join(errs...)
}

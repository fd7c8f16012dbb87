package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"patchbay/identity/join"
	"patchbay/mesh"
)

// IdentitiesDir is where registrations stand below a data directory, and
// ControlDir where the control channel's CA does.
func IdentitiesDir(data string) string { return filepath.Join(data, "identities") }

// ControlDir holds the control channel's CA and its record of used proofs.
func ControlDir(data string) string { return filepath.Join(data, "control") }

// JoinRequest asks for a join directory.
type JoinRequest struct {
	Data        string // the control plane's data directory
	TrustDomain string
	Workload    mesh.Workload
	Out         string // the directory to make
}

// MakeJoin registers a workload and makes its join directory. It is
// idempotent: a join directory that holds and is registered with the same
// discoveryNames is left as it is, and Changed is false.
func MakeJoin(r JoinRequest) (info join.Info, changed bool, err error) {
	if err := r.check(); err != nil {
		return info, false, err
	}
	signer, err := OpenSigner(ControlDir(r.Data), r.TrustDomain)
	if err != nil {
		return info, false, err
	}
	if err := os.MkdirAll(IdentitiesDir(r.Data), 0o700); err != nil {
		return info, false, fmt.Errorf("register %s: %w", r.Workload, err)
	}
	unlock, err := lock(filepath.Join(IdentitiesDir(r.Data), "lock"))
	if err != nil {
		return info, false, fmt.Errorf("register %s: %w", r.Workload, err)
	}
	defer unlock()
	reg := Registration{Namespace: r.Workload.Namespace, Workload: r.Workload.Name}
	file := filepath.Join(IdentitiesDir(r.Data), reg.FileName())
	old, oldErr := readRegistration(file)
	if oldErr != nil && !errors.Is(oldErr, os.ErrNotExist) {
		return info, false, fmt.Errorf("register %s: mend or remove the present file: %w", r.Workload, oldErr)
	}
	reg.Keys, reg.DiscoveryNames = old.Keys, slices.Sorted(slices.Values(r.Workload.DiscoveryNames))
	if reg.DiscoveryNames == nil {
		reg.DiscoveryNames = []string{}
	}
	if d, err := join.Load(r.Out); err == nil && d.TrustDomain == r.TrustDomain && slices.Equal(d.DiscoveryNames, reg.DiscoveryNames) &&
		slices.Equal(old.DiscoveryNames, reg.DiscoveryNames) && string(d.CA) == string(signer.CA()) &&
		slices.ContainsFunc(old.Keys, func(k jose.JSONWebKey) bool { return k.KeyID == d.KeyID }) {
		return d.Info, false, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return info, false, fmt.Errorf("make join key: %w", err)
	}
	info = join.Info{
		Version: 1, Namespace: r.Workload.Namespace, Workload: r.Workload.Name, DiscoveryNames: reg.DiscoveryNames,
		KeyID: rand.Text()[:16], TrustDomain: r.TrustDomain,
	}
	reg.Keys = append(slices.Clone(reg.Keys), jose.JSONWebKey{Key: key.Public(), KeyID: info.KeyID, Algorithm: string(jose.ES256), Use: "sig"})
	return info, true, errors.Join(writeRegistration(file, reg), writeJoin(r.Out, info, key, signer.CA()))
}

func (r JoinRequest) check() error {
	var errs []error
	if err := ValidNode(mesh.Node{Workload: r.Workload, Task: "x"}); err != nil {
		errs = append(errs, err)
	}
	if !segment.MatchString(r.TrustDomain) {
		errs = append(errs, fmt.Errorf("trust domain %q; allowed: a SPIFFE trust domain, [a-z0-9._-]", r.TrustDomain))
	}
	for _, d := range r.Workload.DiscoveryNames {
		if !mesh.ValidDiscoveryName(d) {
			errs = append(errs, fmt.Errorf("discoveryName %q; allowed: up to 64 of [a-z0-9_-], not starting with '-'", d))
		}
	}
	if r.Data == "" || r.Out == "" {
		errs = append(errs, errors.New("the data directory and the directory to make are both needed"))
	}
	return errors.Join(errs...)
}

func writeRegistration(file string, reg Registration) error {
	text, err := json.MarshalIndent(reg, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(file, text, 0o600)
}

func writeJoin(dir string, info join.Info, key *ecdsa.PrivateKey, ca []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make join directory: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return errors.New("encode the join key")
	}
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		writeFile(filepath.Join(dir, join.KeyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
		writeFile(filepath.Join(dir, join.CAFile), ca, 0o644),
		writeFile(filepath.Join(dir, join.InfoFile), text, 0o644))
}

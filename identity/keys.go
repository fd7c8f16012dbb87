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
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"patchbay/identity/durable"
	"patchbay/identity/join"
	"patchbay/identity/registered"
	"patchbay/identity/taskrole"
	"patchbay/mesh"
)

// DefaultTrustDomain is that of a data directory that has no CA yet.
const DefaultTrustDomain = "patchbay"

// ErrRequest is matched by the error of [MakeJoin] or [Withdraw] that lists what is wrong
// with the request itself.
var ErrRequest = errors.New("the request is wrong")

// JoinRequest asks for a join directory.
type JoinRequest struct {
	Data        string // the control plane's data directory
	TrustDomain string // empty: that of the data directory's CA, else DefaultTrustDomain
	Workload    mesh.Workload
	Out         string // the directory to make
	NewKey      bool   // even where Out holds a good key
	// ByRole makes a directory without a key: the tasks prove their AWS role
	// (taskrole.KeyID), or the instances theirs (taskrole.InstanceKeyID).
	ByRole string
}

// Joined is what [MakeJoin] left behind.
type Joined struct {
	Info    join.Info
	Changed []string // what it did, for people; empty if all was there already
	// NewCA says that the data directory had no CA: it is that of no control
	// plane yet, and who joins so trusts no other.
	NewCA bool
}

// MakeJoin registers a workload and makes its join directory. It is idempotent:
// what is there and right is left as it is, also the key, unless the request
// asks for a new one. Keys that were registered before stay so. It may run
// while control planes use the data directory.
func MakeJoin(r JoinRequest) (Joined, error) {
	r, err := r.checked()
	if err != nil {
		return Joined{}, err
	}
	var done Joined
	signer, made, err := openSigner(ControlDir(r.Data), r.TrustDomain)
	if err != nil {
		return Joined{}, err
	}
	if made {
		done.NewCA = true
		done.did("made the control channel's CA in %s", ControlDir(r.Data))
	}
	if r.ByRole != "" {
		return r.byRole(done, signer)
	}
	unlock, err := registered.Lock(r.Data)
	if err != nil {
		return Joined{}, fmt.Errorf("register %s: %w", r.Workload, err)
	}
	defer unlock()
	old, err := present(r)
	if err != nil {
		return Joined{}, err
	}
	have, err := r.look(signer)
	if err != nil {
		return Joined{}, err
	}
	reg := registered.Registration{Namespace: r.Workload.Namespace, Workload: r.Workload.Name, DiscoveryNames: r.Workload.DiscoveryNames, Keys: old.Keys}
	done.Info = join.Info{
		Version: 1, Namespace: r.Workload.Namespace, Workload: r.Workload.Name,
		DiscoveryNames: r.Workload.DiscoveryNames, TrustDomain: r.TrustDomain,
	}
	key, err := r.key(have, &reg, &done)
	if err != nil {
		return Joined{}, err
	}
	// The registration first: a directory that is complete can be used at once.
	// But no key is registered that could not be written down.
	if key != nil {
		if err := writable(r.Out); err != nil {
			return Joined{}, fmt.Errorf("make join directory: %w", err)
		}
	}
	if !reflect.DeepEqual(old, reg) {
		if err := registered.Write(registered.Dir(r.Data), reg); err != nil {
			return Joined{}, fmt.Errorf("register %s: %w", r.Workload, err)
		}
		done.did("registered %s: discoveryNames %q, join keys: %d", r.Workload, reg.DiscoveryNames, len(reg.Keys))
	}
	if err := done.write(r.Out, key, signer.CA()); err != nil {
		return Joined{}, fmt.Errorf("make join directory: %w", err)
	}
	return done, nil
}

// key is a new join key, which reg then lists; nil if the one that the
// directory has goes on to count.
func (r JoinRequest) key(have *join.Dir, reg *registered.Registration, done *Joined) (*ecdsa.PrivateKey, error) {
	if !r.NewKey && have != nil && have.TrustDomain == r.TrustDomain && reg.Has(have.KeyID) {
		done.Info.KeyID = have.KeyID
		return nil, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make join key: %w", err)
	}
	done.Info.KeyID = join.KeyID(&key.PublicKey)
	reg.Keys = append(slices.Clone(reg.Keys), jose.JSONWebKey{Key: key.Public(), KeyID: done.Info.KeyID, Algorithm: string(jose.ES256), Use: "sig"})
	return key, nil
}

// byRole makes a directory without a key. The control plane's file says what a
// role may be, so that nothing is registered.
func (r JoinRequest) byRole(done Joined, signer *Signer) (Joined, error) {
	if _, err := r.look(signer); err != nil {
		return Joined{}, err
	}
	if _, err := os.Lstat(filepath.Join(r.Out, join.KeyFile)); err == nil {
		return Joined{}, fmt.Errorf("%s holds a join key, which a task that joins by its role has not: use another directory", r.Out)
	}
	done.Info = join.Info{
		Version: 1, Namespace: r.Workload.Namespace, Workload: r.Workload.Name, DiscoveryNames: r.Workload.DiscoveryNames,
		KeyID: r.ByRole, TrustDomain: r.TrustDomain,
	}
	if err := os.MkdirAll(r.Out, 0o700); err != nil {
		return Joined{}, fmt.Errorf("make join directory: %w", err)
	}
	if err := done.write(r.Out, nil, signer.CA()); err != nil {
		return Joined{}, fmt.Errorf("make join directory: %w", err)
	}
	return done, nil
}

func (d *Joined) did(format string, args ...any) {
	d.Changed = append(d.Changed, fmt.Sprintf(format, args...))
}

// checked fills in what was left out, or returns all that is wrong.
func (r JoinRequest) checked() (JoinRequest, error) {
	errs := join.ValidWorkload(r.Workload)
	r.Workload.DiscoveryNames = slices.Compact(slices.Sorted(slices.Values(r.Workload.DiscoveryNames)))
	if r.Workload.DiscoveryNames == nil {
		r.Workload.DiscoveryNames = []string{} // [] in JSON
	}
	if r.Data == "" {
		errs = append(errs, errors.New("data: is missing; allowed: the control plane's data directory"))
	}
	if r.Out == "" {
		errs = append(errs, errors.New("out: is missing; allowed: the directory to make"))
	}
	if r.TrustDomain == "" && r.Data != "" {
		_, err := os.Stat(ControlDir(r.Data))
		if r.ByRole != "" && errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("data: %s is the data directory of no control plane, which a task that joins by its role has to find there; allowed: that of one, or trust-domain as well, for one that is to start on it", r.Data))
		}
		if r.TrustDomain, err = trustDomainOf(ControlDir(r.Data)); err != nil {
			errs = append(errs, err)
		}
	} else if err := join.ValidTrustDomain(r.TrustDomain); r.TrustDomain != "" && err != nil {
		errs = append(errs, fmt.Errorf("trust domain: %w", err))
	}
	if r.ByRole != "" && r.NewKey {
		errs = append(errs, errors.New("new key: a task that joins by its role has none; allowed: one of the two"))
	}
	if len(errs) > 0 {
		return r, fmt.Errorf("%w:\n%w", ErrRequest, errors.Join(errs...))
	}
	return r, nil
}

// present is the registration as it stands; empty if there is none.
func present(r JoinRequest) (registered.Registration, error) {
	name := registered.Registration{Namespace: r.Workload.Namespace, Workload: r.Workload.Name}.FileName()
	reg, err := registered.Read(filepath.Join(registered.Dir(r.Data), name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return reg, fmt.Errorf("register %s: mend or remove the present file: %w", r.Workload, err)
	}
	return reg, nil
}

// look returns what Out holds, nil if that is nothing or may be replaced. Files
// that are another workload's, or no part of a join directory, are not ours to
// replace.
func (r JoinRequest) look(signer *Signer) (*join.Dir, error) {
	have, err := join.Load(r.Out)
	if err != nil {
		if _, statErr := os.Stat(filepath.Join(r.Out, join.InfoFile)); errors.Is(statErr, fs.ErrNotExist) {
			if ca, caErr := os.ReadFile(filepath.Join(r.Out, join.CAFile)); caErr == nil && string(ca) != string(signer.CA()) {
				return nil, fmt.Errorf("%s holds a %s that belongs to something else: use another directory", r.Out, join.CAFile)
			}
		}
		return nil, nil // what can't be used is made anew
	}
	if have.Namespace != r.Workload.Namespace || have.Workload != r.Workload.Name {
		return nil, fmt.Errorf("%s is the join directory of %s/%s, not of %s: use another directory", r.Out, have.Namespace, have.Workload, r.Workload)
	}
	return have, nil
}

func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// write brings a join directory up to date; key is nil if the present one
// stays. Whoever runs this owns the files, and nobody else may read them.
func (d *Joined) write(dir string, key *ecdsa.PrivateKey, ca []byte) error {
	files := []struct {
		name    string
		content []byte // nil: as it is
	}{{join.KeyFile, nil}, {join.CAFile, ca}, {join.InfoFile, nil}}
	if key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return errors.New("encode the join key")
		}
		files[0].content = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	text, err := json.MarshalIndent(d.Info, "", "  ")
	if err != nil {
		return err
	}
	files[2].content = append(text, '\n')
	if taskrole.IsKeyID(d.Info.KeyID) {
		files = files[1:]
	}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		now, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if f.content == nil {
			f.content = now
		}
		if st, err := os.Stat(path); err == nil && st.Mode().Perm() == 0o600 && string(now) == string(f.content) {
			continue
		}
		if err := durable.WriteFile(path, f.content, 0o600); err != nil {
			return err
		}
		d.did("wrote %s", path)
	}
	return nil
}

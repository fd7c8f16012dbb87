package identity

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"patchbay/identity/join"
)

// Withdraw takes a join key from a workload, or with an empty keyID the
// workload from the mesh. Control planes on the data directory end what was
// opened with it within seconds. It reports whether there was anything to
// withdraw.
func Withdraw(data, namespace, workload, keyID string) (bool, error) {
	r := Registration{Namespace: namespace, Workload: workload}
	fail := func(err error) (bool, error) { return false, fmt.Errorf("withdraw %s: %w", r.AsWorkload(), err) }
	if err := errors.Join(join.ValidWorkload(r.AsWorkload())...); err != nil {
		return fail(fmt.Errorf("%w:\n%w", ErrRequest, err))
	}
	if _, err := os.Stat(IdentitiesDir(data)); err != nil {
		return fail(err)
	}
	unlock, err := lockRegistrations(data)
	if err != nil {
		return fail(err)
	}
	defer unlock()
	file := filepath.Join(IdentitiesDir(data), r.FileName())
	now, err := readRegistration(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case keyID == "": // also one that can't be read
		if err := os.Remove(file); err != nil {
			return fail(err)
		}
		return true, nil
	case err != nil:
		return fail(err)
	case !now.has(keyID):
		return false, nil
	case len(now.Keys) == 1:
		return fail(fmt.Errorf("key %q is its only one: make another with `patchbay token join --new-key` first, or withdraw the whole workload", keyID))
	}
	now.Keys = slices.DeleteFunc(now.Keys, func(k jose.JSONWebKey) bool { return k.KeyID == keyID })
	if err := writeRegistration(IdentitiesDir(data), now); err != nil {
		return fail(err)
	}
	return true, nil
}

// Registered lists the registrations of a data directory by name. The error
// names every file that is wrong; the others are listed nevertheless.
func Registered(data string) ([]Registration, error) {
	entries, err := os.ReadDir(IdentitiesDir(data))
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	var all []Registration
	var errs []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		r, err := readRegistration(filepath.Join(IdentitiesDir(data), e.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Registration) int { return cmp.Compare(a.AsWorkload().String(), b.AsWorkload().String()) })
	return all, errors.Join(errs...)
}

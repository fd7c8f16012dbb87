package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"patchbay/identity/join"
	"patchbay/identity/registered"
)

// Withdraw takes a join key from a workload, or with an empty keyID the
// workload from the mesh. Control planes on the data directory end what was
// opened with it within seconds. It reports whether there was anything to
// withdraw.
func Withdraw(data, namespace, workload, keyID string) (bool, error) {
	r := registered.Registration{Namespace: namespace, Workload: workload}
	fail := func(err error) (bool, error) { return false, fmt.Errorf("withdraw %s: %w", r.AsWorkload(), err) }
	if err := errors.Join(join.ValidWorkload(r.AsWorkload())...); err != nil {
		return fail(fmt.Errorf("%w:\n%w", ErrRequest, err))
	}
	if _, err := os.Stat(registered.Dir(data)); err != nil {
		return fail(err)
	}
	unlock, err := registered.Lock(data)
	if err != nil {
		return fail(err)
	}
	defer unlock()
	file := filepath.Join(registered.Dir(data), r.FileName())
	now, err := registered.Read(file)
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
	case !now.Has(keyID):
		return false, nil
	case len(now.Keys) == 1:
		return fail(fmt.Errorf("key %q is its only one: make another with `patchbay token join --new-key` first, or withdraw the whole workload", keyID))
	}
	now.Keys = slices.DeleteFunc(now.Keys, func(k jose.JSONWebKey) bool { return k.KeyID == keyID })
	if err := registered.Write(registered.Dir(data), now); err != nil {
		return fail(err)
	}
	return true, nil
}

package controlplane

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"patchbay/identity"
	"patchbay/identity/sharing"
	"patchbay/pki/secret"
)

// vault keeps the control channel's CA in the secret store that replicas share.
type vault struct{ store secret.Store }

const controlSecret = "control/ca"

// Load implements [sharing.Vault].
func (v vault) Load(ctx context.Context) ([]byte, error) {
	e, err := v.store.Load(ctx, controlSecret)
	if errors.Is(err, secret.ErrNone) {
		return nil, nil
	}
	return e.Value, err
}

// Save implements [sharing.Vault].
func (v vault) Save(ctx context.Context, pem []byte) (bool, error) {
	err := v.store.Save(ctx, secret.Entry{Name: controlSecret, Generation: 1, Value: pem})
	if errors.Is(err, secret.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// buildSecrets opens the secret store, and where replicas share it, has the
// control channel's CA from there. A replica that has it already starts without
// the store, too.
func (c *control) buildSecrets(ctx context.Context) error {
	var err error
	if c.vault, err = c.secrets(ctx); err != nil {
		return err
	}
	if c.cfg.Secrets.SecretsManager == nil && c.cfg.Secrets.Etcd == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dir := identity.ControlDir(c.cfg.Data)
	err = sharing.Signer(ctx, dir, c.cfg.TrustDomain, vault{c.vault})
	if _, here := os.Stat(filepath.Join(dir, "ca.pem")); err != nil && here == nil && !errors.Is(err, sharing.ErrOtherSigner) {
		c.log.Warn("the secret store does not say whether other replicas have the same CA of the control channel; this one uses its own copy", "error", err.Error())
		return nil
	}
	return err
}

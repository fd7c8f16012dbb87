// Package sharing gives all replicas of a control plane one CA of the control
// channel. It must not know where they share it. Start reading at [Signer].
package sharing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"patchbay/identity"
	"patchbay/identity/durable"
)

// ErrOtherSigner says that a replica has a CA that the others have not.
var ErrOtherSigner = errors.New("the control channel's CA is not the one that the other replicas share")

// Vault is where replicas share the control channel's CA.
type Vault interface {
	// Load returns what was saved; nil if nothing was.
	Load(ctx context.Context) ([]byte, error)
	// Save keeps what is the first to come; false: something is there.
	Save(ctx context.Context, pem []byte) (first bool, err error)
}

// Signer makes the CA in dir the one that all replicas have: the vault's,
// or, where that has none, the one in dir or a new one. A dir that holds
// another CA than the vault is left as it is, and an error.
func Signer(ctx context.Context, dir, trustDomain string, v Vault) error {
	shared, err := v.Load(ctx)
	if err != nil {
		return fmt.Errorf("the control channel's CA that replicas share: %w", err)
	}
	made := false
	if shared == nil {
		_, err := os.Stat(filepath.Join(dir, "ca.pem"))
		made = errors.Is(err, os.ErrNotExist)
		if _, err = identity.OpenSigner(dir, trustDomain); err != nil {
			return err
		}
		own, err := caFiles(dir)
		if err != nil {
			return err
		}
		first, err := v.Save(ctx, own)
		if err == nil && !first {
			shared, err = v.Load(ctx)
		}
		if err != nil {
			return fmt.Errorf("share the control channel's CA: %w", err)
		}
		if first {
			return nil
		}
	}
	switch own, err := caFiles(dir); {
	case err == nil && bytes.Equal(own, shared):
		return nil
	case err == nil && !made:
		return fmt.Errorf("%w: in %s; remove that directory to use theirs; tasks that joined by it join again, with join directories of the other", ErrOtherSigner, dir)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	}
	key, cert, ok := bytes.Cut(shared, []byte(separator))
	if !ok {
		return errors.New("the control channel's CA that replicas share is not well-formed")
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o700), durable.MakeDir(dir)); err != nil {
		return fmt.Errorf("control channel's CA: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "ca.key"), key, 0o600); err != nil {
		return fmt.Errorf("control channel's CA: %w", err)
	}
	return durable.WriteFile(filepath.Join(dir, "ca.pem"), cert, 0o644)
}

// separator stands between key and certificate where both are one text.
const separator = "\n--\n"

func caFiles(dir string) ([]byte, error) {
	key, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	cert, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	return bytes.Join([][]byte{key, cert}, []byte(separator)), err
}

package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"patchbay/admin/api"
)

// Hint says what to do about a control plane that does not answer.
func Hint(err error) error {
	if errors.As(err, new(x509.UnknownAuthorityError)) {
		return fmt.Errorf("%w\nname the CA of its certificate (admin.tls.certFile) with --tls-ca", err)
	}
	if errors.As(err, new(*api.Unreachable)) {
		return fmt.Errorf("%w\nname it with --admin, or start it with `patchbay serve`; `patchbay doctor` says more", err)
	}
	if errors.As(err, new(*api.Denied)) {
		return fmt.Errorf("%w\ngive it with --token-file, or a client certificate with --tls-cert; on the control plane's machine, --admin unix:DATA/admin.sock needs none", err)
	}
	return err
}

// errOver ends what was asked to last for a time.
var errOver = errors.New("the time is over")

// Lasting is ctx, ended after d; 0 is no limit.
func Lasting(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, d, errOver)
}

// Over is the error of what ended with ctx: none if its time was over.
func Over(ctx context.Context, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), errOver):
		return nil
	case err == nil && ctx.Err() == nil:
		return errors.New("the control plane has ended the stream: is it being restarted? ask again")
	}
	return Hint(err)
}

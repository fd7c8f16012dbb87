package secrets

import (
	"slices"

	"patchbay/internal/awsfake/wire"
)

// Key is a KMS key.
type Key struct {
	ARN   string
	Alias string // alias/NAME; empty: it has none
}

// awsKey is AWS's own, which needs no permission.
const awsKey = "alias/aws/secretsmanager"

// Disable switches a KMS key off, or on again.
func (s *Secrets) Disable(arn string, off bool) { s.disabled.Store(arn, off) }

// arnOf is the ARN of a key by any of its names; without a list of keys, the
// name itself.
func (s *Secrets) arnOf(key string) (string, bool) {
	if s.o.Keys == nil {
		return key, true
	}
	at := slices.IndexFunc(s.o.Keys, func(k Key) bool { return key == k.ARN || key == k.Alias && key != "" })
	if at < 0 {
		return "", false
	}
	return s.o.Keys[at].ARN, true
}

// key refuses a KMS key that is not there, is switched off, or that the caller
// may not use.
func (s *Secrets) key(c *wire.Call, key string, actions ...string) error {
	if key == "" || key == awsKey {
		return nil
	}
	code := "EncryptionFailure"
	if len(actions) == 1 {
		code = "DecryptionFailure"
	}
	arn, ok := s.arnOf(key)
	if !ok {
		return wire.Fail(code, "Secrets Manager can't encrypt or decrypt the protected secret text using the provided KMS key %s: it does not exist", key)
	}
	for _, a := range actions {
		if err := c.Also("kms:"+a, arn); err != nil {
			return wire.Fail("AccessDeniedException", "Access to KMS is not allowed: %v", err)
		}
	}
	if off, ok := s.disabled.Load(arn); ok && off.(bool) {
		return wire.Fail(code, "Secrets Manager can't encrypt or decrypt the protected secret text using the provided KMS key %s: it is disabled", arn)
	}
	return nil
}

// rekey puts a secret under another key. Versions with a label go over with it
// only if the caller may also encrypt with the new one. s.mu is held.
func (s *Secrets) rekey(c *wire.Call, sec *secret, key string) error {
	if err := s.key(c, key, "GenerateDataKey", "Decrypt"); err != nil {
		return err
	}
	arn, _ := s.arnOf(key)
	again := c.Could("kms:Encrypt", arn)
	for _, v := range sec.versions {
		if again && len(v.stages) > 0 {
			if err := s.key(c, v.kms, "Decrypt"); err != nil {
				return err
			}
		}
	}
	sec.write()
	for _, v := range sec.versions {
		if again && len(v.stages) > 0 {
			v.kms = key
		}
	}
	sec.kms = key
	return nil
}

package secretsmanager

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"

	"patchbay/internal/iam"
)

// maxName is Secrets Manager's.
const maxName = 512

// id is the name of a secret in Secrets Manager. What may not be in one
// becomes =XX (hexadecimal); a name too long is cut and made unique by its
// hash; and none ends like an ARN's suffix, a hyphen and six characters.
func (s *Store) id(name string) string {
	var b strings.Builder
	b.WriteString(s.o.Prefix)
	for i := range len(name) {
		c := name[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/_+.@-", c) >= 0
		if plain && !(c == '-' && i == len(name)-7) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	id := b.String()
	if len(id) > maxName {
		sum := sha256.Sum256([]byte(name))
		id = id[:maxName-34] + "==" + hex.EncodeToString(sum[:16])
	}
	return id
}

func (s *Store) tags(name string) []types.Tag {
	all := map[string]string{"managed-by": "patchbay", "patchbay:secret": tagValue(name)}
	maps.Copy(all, s.o.Tags)
	out := make([]types.Tag, 0, len(all))
	for _, k := range slices.Sorted(maps.Keys(all)) {
		v := all[k]
		out = append(out, types.Tag{Key: &k, Value: &v})
	}
	return out
}

// tagValue is what a tag may hold of a name: 256 characters.
func tagValue(name string) string { return name[:min(len(name), 256)] }

// kmsResource is what a policy calls a KMS key: IAM knows it by its ARN, and an
// alias by a condition.
func kmsResource(key string) (arn string, condition map[string]map[string]string) {
	where, name := "arn:aws:kms:*:*:", key
	if strings.HasPrefix(key, "arn:") {
		at := strings.LastIndexByte(key, ':') + 1
		where, name = key[:at], key[at:]
	}
	switch {
	case key == "":
		return "*", nil
	case strings.HasPrefix(name, "alias/"):
		return where + "key/*", map[string]map[string]string{"ForAnyValue:StringEquals": {"kms:ResourceAliases": name}}
	}
	return where + "key/" + strings.TrimPrefix(name, "key/"), nil
}

// explain says what to do about an error of an operation under a KMS key (empty:
// the store's own); nil stays nil.
func (s *Store) explain(operation, name, key string, err error) error {
	if err == nil {
		return nil
	}
	action, resource := "secretsmanager:"+operation, "arn:aws:secretsmanager:*:*:secret:"+s.o.Prefix+"*"
	var condition map[string]map[string]string
	if strings.Contains(err.Error(), "Access to KMS") { // AWS often says no more
		action = "kms:GenerateDataKey"
		resource, condition = kmsResource(cmp.Or(key, s.o.KMSKey))
		if operation == "GetSecretValue" {
			action = "kms:Decrypt"
		}
	}
	err = iam.Explain(err, action, resource)
	if d, is := errors.AsType[*iam.Denied](err); is {
		// Of all secrets of this mesh, not of one after the other.
		if before, _, named := strings.Cut(d.Resource, ":secret:"); named {
			d.Resource = before + ":secret:" + s.o.Prefix + "*"
		}
		if d.Resource == resource {
			d.Condition = condition
		}
	}
	advice := ""
	api, _ := errors.AsType[smithy.APIError](err)
	code := ""
	if api != nil {
		code = api.ErrorCode()
	}
	switch code {
	case "InvalidRequestException":
		advice = "if the secret is scheduled for deletion, restore it (RestoreSecret): without it no certificate of this name can be renewed"
	case "EncryptionFailure", "DecryptionFailure":
		advice = "the KMS key must be symmetric and enabled, and its policy must let the control plane's role use it through Secrets Manager"
	case "LimitExceededException":
		advice = "a hundred versions of the secret are younger than a day: something else writes it too"
	}
	if advice == "" {
		return fmt.Errorf("%s %s: %w", operation, s.id(name), err)
	}
	return fmt.Errorf("%s %s: %w; %s", operation, s.id(name), err, advice)
}

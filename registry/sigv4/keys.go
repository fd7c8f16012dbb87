// Package sigv4 lets callers in by a static table of access keys: it verifies
// the signature that AWS SDKs put on their requests (Signature Version 4).
//
// It owns the table and the verification. It must not know what the requests
// ask for.
//
// Start reading at [Keys.Verify].
package sigv4

import (
	"errors"
	"fmt"
	"log/slog"

	"go.yaml.in/yaml/v3"

	"patchbay/internal/textfile"
)

// Key is what belongs to one access key id.
type Key struct {
	Secret   string
	ReadOnly bool
}

// String and LogValue keep the secret out of every text.
func (k Key) String() string { return fmt.Sprintf("key (read-only: %t)", k.ReadOnly) }

// GoString is String.
func (k Key) GoString() string { return k.String() }

// LogValue is String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Keys are the access keys by id.
type Keys map[string]Key

// minSecret is the least length of a secret; AWS's have 40 characters.
const minSecret = 16

// LoadKeys reads a YAML file such as
//
//	keys:
//	  control-plane: {secret: AT-LEAST-16-CHARACTERS}
//	  dashboard: {secret: AT-LEAST-16-CHARACTERS, readOnly: true}
//
// Nobody but its owner may be able to read it (mode 0600). The error lists
// everything that is wrong, with file and line, and no secret.
func LoadKeys(path string) (Keys, error) {
	b, mode, err := textfile.Read(path, "a table of keys")
	if err != nil {
		return nil, fmt.Errorf("read the access keys: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		// The parser's own words could quote a secret.
		return nil, fmt.Errorf("%s: is not YAML; allowed: `keys: {ID: {secret: …, readOnly: true}}`", path)
	}
	r := reader{path: path, keys: Keys{}}
	if mode&0o077 != 0 {
		r.problems = append(r.problems, fmt.Errorf("%s: has mode %#o, so that others can use its secrets; allowed: 0600 (chmod 600 %[1]s)", path, mode))
	}
	if len(doc.Content) == 1 {
		r.file(doc.Content[0])
	}
	if len(doc.Content) == 0 || len(r.keys) == 0 && len(r.problems) == 0 {
		r.problems = append(r.problems, fmt.Errorf("%s: has no keys; allowed: `keys: {ID: {secret: …, readOnly: true}}`", path))
	}
	if len(r.problems) > 0 {
		return nil, errors.Join(r.problems...)
	}
	return r.keys, nil
}

// reader turns the file's nodes into keys. It reads nodes, not structs, since
// an error of the decoder would quote the value.
type reader struct {
	path     string
	keys     Keys
	problems []error
}

func (r *reader) bad(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf("%s:%d: %s", r.path, n.Line, fmt.Sprintf(format, args...)))
}

// fields calls f for each pair of a mapping.
func (r *reader) fields(n *yaml.Node, what string, f func(name, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.bad(n, "%s is not a mapping", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if seen[n.Content[i].Value] {
			r.bad(n.Content[i], "%s has %q twice", what, n.Content[i].Value)
			continue
		}
		seen[n.Content[i].Value] = true
		f(n.Content[i], n.Content[i+1])
	}
}

func (r *reader) file(n *yaml.Node) {
	r.fields(n, "the file", func(name, value *yaml.Node) {
		if name.Value != "keys" {
			r.bad(name, "%q is not known; allowed: keys", name.Value)
			return
		}
		r.fields(value, "keys", r.key)
	})
}

func (r *reader) key(id, value *yaml.Node) {
	var k Key
	r.fields(value, "key "+id.Value, func(name, v *yaml.Node) {
		switch name.Value {
		case "secret":
			if v.Kind == yaml.ScalarNode {
				k.Secret = v.Value
			}
		case "readOnly":
			if v.Decode(&k.ReadOnly) != nil {
				r.bad(v, "readOnly of key %s is neither true nor false", id.Value)
			}
		default:
			r.bad(name, "%q of key %s is not known; allowed: secret, readOnly", name.Value, id.Value)
		}
	})
	if !keyID.MatchString(id.Value) {
		r.bad(id, "%q is no access key id; allowed: 1 to 128 letters, digits, _ and -", id.Value)
	}
	if len(k.Secret) < minSecret {
		r.bad(id, "the secret of key %s has %d characters; allowed: %d and more", id.Value, len(k.Secret), minSecret)
	}
	r.keys[id.Value] = k
}

package source

import (
	"bytes"
	"fmt"
	"strings"

	"patchbay/declare/definition"
)

// Policies gives a definition the policies of a file that has them alone, as
// {"policies": {…}} in JSON or YAML. Only a service in the words of the ECS API
// can have them in itself. The error is of type [definition.Problems].
func Policies(d *definition.Definition, f File) error {
	bad := func(path, format string, args ...any) error {
		return definition.Problems{{File: f.Name, Path: path, Text: fmt.Sprintf(format, args...)}}
	}
	const allowed = `allowed: {"policies": {…}}, by discoveryName, in JSON or YAML`
	text := bytes.TrimSpace(bytes.TrimPrefix(f.Text, []byte("\xef\xbb\xbf")))
	if len(text) == 0 || len(text) > maxText {
		return bad("", "is empty, or too large; %s", allowed)
	}
	root, err := object(text)
	switch {
	case err != nil:
		return bad("", "%v", err)
	case root.Object(policies) == nil || len(root.Keys()) > 1:
		return bad("", "has %s; %s", orNothing(root.Keys()), allowed)
	case d.Policies != nil:
		return bad(policies, "stand in %s as well; allowed: one of the two", d.ServiceFile())
	}
	d.Policies, d.PoliciesAt = root.Object(policies), place{File: f.Name}
	return nil
}

func orNothing(keys []string) string {
	if len(keys) == 0 {
		return "no keys"
	}
	return "the keys " + strings.Join(keys, ", ")
}

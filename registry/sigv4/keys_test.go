package sigv4

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func load(t *testing.T, text string, mode os.FileMode) (Keys, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys.yaml")
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return LoadKeys(file)
}

func TestLoadKeys(t *testing.T) {
	got, err := load(t, "keys:\n  control: {secret: a-secret-of-some-length}\n  dashboard: {secret: \"0123456789012345\", readOnly: true}\n", 0o600)
	want := Keys{"control": {Secret: secret}, "dashboard": {Secret: "0123456789012345", ReadOnly: true}}
	if err != nil || !cmp.Equal(want, got) {
		t.Fatalf("%v, %v", got, err)
	}
	for _, text := range []string{fmt.Sprint(got), fmt.Sprintf("%+v %#v", got, got), func() string {
		var b strings.Builder
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "key", got["control"], "keys", got)
		return b.String()
	}()} {
		if strings.Contains(text, secret) {
			t.Errorf("the secret is in %q", text)
		}
	}
}

// Everything that is wrong is named with its line, at once, and no secret.
func TestBadKeys(t *testing.T) {
	const hidden = "PASSWORD-THAT-MUST-NOT-SHOW"
	for what, c := range map[string]struct {
		text string
		mode os.FileMode
		says []string
	}{
		"nothing":        {"", 0o600, []string{"has no keys"}},
		"no keys":        {"keys: {}", 0o600, []string{"has no keys"}},
		"not YAML":       {"keys: [" + hidden, 0o600, []string{"is not YAML"}},
		"a list":         {"- " + hidden, 0o600, []string{":1: the file is not a mapping"}},
		"for the group":  {"keys: {a: {secret: " + hidden + "}}", 0o640, []string{"mode 0640", "chmod 600"}},
		"a bare secret":  {"keys: {a: " + hidden + "}", 0o600, []string{":1: key a is not a mapping", "0 characters"}},
		"all at once":    {"keys:\n  a: {secret: short, colour: red}\n  \"b c\": {secret: " + hidden + ", readOnly: perhaps}\n  a: {secret: " + hidden + "}\nothers: 1\n", 0o600, []string{":2: ", "colour", "5 characters", ":3: \"b c\"", "readOnly of key b c", ":4: keys has \"a\" twice", ":5: \"others\""}},
		"secret is list": {"keys: {a: {secret: [" + hidden + "]}}", 0o600, []string{"0 characters"}},
		"too large":      {"keys: {a: {secret: " + strings.Repeat("x", 1<<20) + "}}", 0o600, []string{"1 MiB"}},
	} {
		got, err := load(t, c.text, c.mode)
		if err == nil {
			t.Errorf("%s: %v was accepted", what, got)
			continue
		}
		if strings.Contains(err.Error(), hidden) {
			t.Errorf("%s: the secret is in %q", what, err)
		}
		for _, want := range c.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", what, err, want)
			}
		}
	}
	if _, err := LoadKeys(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file was read")
	}
}

// FuzzKeys: whatever the file holds, what is accepted is usable.
func FuzzKeys(f *testing.F) {
	f.Add("keys: {a: {secret: a-secret-of-some-length, readOnly: true}}")
	f.Add("keys: &x\n  a: *x")
	f.Add("? [a]\n: b")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := load(t, text, 0o600)
		if err == nil && len(keys) == 0 {
			t.Fatal("accepted without a key")
		}
		for id, k := range keys {
			if err == nil && (!keyID.MatchString(id) || len(k.Secret) < minSecret) {
				t.Fatalf("accepted %q", id)
			}
		}
	})
}

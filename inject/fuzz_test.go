package inject

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzCompose: no input panics, every refusal is a list of problems, what was
// injected can be taken away and injected again.
func FuzzCompose(f *testing.F) {
	for _, pattern := range []string{"*.plain.yml", "*.bad.yml", "*.injected.yml"} {
		for _, file := range files(f, pattern) {
			f.Add(content(f, file))
		}
	}
	f.Add([]byte("x-patchbay: {namespace: a}\nservices:\n  a: &a\n    image: x\n    networks: &n {b: {aliases: [*a]}}\n    x-service-connect: {}\n"))
	f.Add([]byte("#patchbay-was:services:\n#patchbay-was:  a: 1\n"))
	f.Add([]byte("x-patchbay: {namespace: a}\nservices:\n  a:\n    command: |+\n      x\n      # y\n\n    x-service-connect: {}\n...\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		plain, err := Remove("f", in)
		if err == nil {
			var out []byte
			if out, err = Compose("f", in); err == nil {
				undone(t, plain, out)
				return
			}
		}
		problems, ok := errors.AsType[Problems](err)
		if !ok || len(problems) == 0 || problems[0].Text == "" {
			t.Fatalf("not a list of problems: %#v", err)
		}
	})
}

func undone(t *testing.T, plain, out []byte) {
	t.Helper()
	if back, err := Remove("f", out); err != nil || !bytes.Equal(back, plain) {
		t.Fatalf("removal: %v\n%q\n%q", err, plain, back)
	}
	if again, err := Compose("f", out); err != nil || !bytes.Equal(again, out) {
		t.Fatalf("a second time: %v\n%s\n%s", err, out, again)
	}
}

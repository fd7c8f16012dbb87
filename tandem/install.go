package tandem

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Names below the directory of the programs.
const (
	Program = "patchbay"
	Envoy   = "envoy"
	Library = "lib"
	loader  = "ld.so"
)

// libraryDirs are where an image keeps shared libraries.
var libraryDirs = []string{
	"/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu",
	"/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib", "/usr/lib",
}

// Install puts a program, Envoy, and the libraries that Envoy needs into dir,
// so that they run in containers of any image that has dir mounted at the same
// path: Envoy there is started by its own loader. A file that is the same is
// left alone; another is replaced in one step, also while it runs.
func Install(dir, program, envoy string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%q; allowed: the absolute path at which the containers have the directory", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, Library), 0o755); err != nil { //nolint:gosec // programs are for all to run
		return fmt.Errorf("install: %w", err)
	}
	text, err := os.ReadFile(envoy)
	if err != nil {
		return fmt.Errorf("install Envoy: %w", err)
	}
	interpreter, libraries, err := needs(envoy)
	if err != nil {
		return fmt.Errorf("install Envoy: %w", err)
	}
	if interpreter != "" {
		if text, err = withLoader(text, filepath.Join(dir, loader)); err != nil {
			return fmt.Errorf("install Envoy: %w", err)
		}
		if err := install(interpreter, filepath.Join(dir, loader)); err != nil {
			return err
		}
	}
	for _, l := range libraries {
		if err := install(l, filepath.Join(dir, Library, filepath.Base(l))); err != nil {
			return err
		}
	}
	if err := put(text, filepath.Join(dir, Envoy)); err != nil {
		return err
	}
	return install(program, filepath.Join(dir, Program))
}

// needs finds the loader and every library of a program; both empty for a
// static one.
func needs(path string) (interpreter string, libraries []string, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(p.Open())
			if err != nil {
				return "", nil, err
			}
			interpreter = string(bytes.TrimRight(b, "\x00"))
		}
	}
	want, err := f.ImportedLibraries()
	if err != nil {
		return "", nil, err
	}
	for i := 0; i < len(want); i++ {
		if want[i] == filepath.Base(interpreter) {
			continue
		}
		lib, more, err := library(want[i])
		if err != nil {
			return "", nil, err
		}
		libraries = append(libraries, lib)
		for _, m := range more {
			if !slices.Contains(want, m) {
				want = append(want, m)
			}
		}
	}
	return interpreter, libraries, nil
}

// library finds a library by name, and what it needs itself.
func library(name string) (path string, more []string, err error) {
	for _, dir := range libraryDirs {
		path := filepath.Join(dir, name)
		f, err := elf.Open(path)
		if err != nil {
			continue
		}
		more, err := f.ImportedLibraries()
		return path, more, errors.Join(err, f.Close())
	}
	return "", nil, fmt.Errorf("the library %s is in none of %v", name, libraryDirs)
}

// withLoader names another loader in a program, in the room of the old name.
func withLoader(program []byte, path string) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, err
	}
	out := slices.Clone(program)
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		room := out[p.Off : p.Off+p.Filesz]
		if len(path)+1 > len(room) {
			return nil, fmt.Errorf("the path %s is too long for its loader; allowed: %d bytes", path, len(room)-1)
		}
		clear(room)
		copy(room, path)
	}
	return out, nil
}

func install(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	return put(text, to)
}

// put writes an executable file, unless it is there already.
func put(text []byte, to string) error {
	if old, err := os.ReadFile(to); err == nil && bytes.Equal(old, text) {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(to), ".new-*")
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	defer os.Remove(tmp.Name()) // gone once it is renamed
	_, err = tmp.Write(text)
	if err := errors.Join(err, tmp.Chmod(0o755), tmp.Close()); err != nil {
		return fmt.Errorf("install %s: %w", to, err)
	}
	if err := os.Rename(tmp.Name(), to); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	return nil
}

package join

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"patchbay/identity/durable"
)

// ErrKeyed is what [PublicFiles] says of a directory with a key.
var ErrKeyed = errors.New("the join directory holds a key")

// PublicFiles are the files of a join directory in which nothing is secret, by name:
// one of a workload that joins by its role.
func PublicFiles(dir string) (map[string]string, error) {
	if _, err := os.Stat(filepath.Join(dir, KeyFile)); err == nil {
		return nil, ErrKeyed
	}
	if _, err := Load(dir); err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, name := range []string{InfoFile, CAFile} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = string(text)
	}
	return files, nil
}

// Unpack makes a join directory out of one JSON object, file name → text, as
// 'patchbay inject ecs' puts it into a task definition. A key has no place there.
func Unpack(text, dir string) error {
	var files map[string]string
	if err := json.Unmarshal([]byte(text), &files); err != nil {
		return fmt.Errorf("join-files: is not a JSON object of texts: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("join-files: %w", err)
	}
	var errs []error
	for name, content := range files {
		if !slices.Contains([]string{InfoFile, CAFile}, name) {
			errs = append(errs, fmt.Errorf("join-files: %.40q; allowed: %s, %s", name, InfoFile, CAFile))
			continue
		}
		errs = append(errs, durable.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	return errors.Join(errs...)
}

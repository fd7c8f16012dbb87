package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// writeJoin makes the join directory out of one JSON object, file name → text,
// as 'patchbay inject ecs' puts it into a task definition. It lies beside the
// state directory. A key has no place there.
func writeJoin(text, state string) (string, error) {
	var files map[string]string
	if err := json.Unmarshal([]byte(text), &files); err != nil {
		return "", fmt.Errorf("join-files: is not a JSON object of texts: %w", err)
	}
	dir := state + "-join"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("join-files: %w", err)
	}
	var errs []error
	for name, content := range files {
		if !slices.Contains([]string{"join.json", "ca.pem"}, name) {
			errs = append(errs, fmt.Errorf("join-files: %.40q; allowed: join.json, ca.pem", name))
			continue
		}
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	return dir, errors.Join(errs...)
}

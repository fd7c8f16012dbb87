package tasks

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"patchbay/cmd/patchbay/cli"
)

// writeTemplate writes a template under the name that it has, in another place.
func writeTemplate(stdout io.Writer, dir, name string, text []byte) error {
	to := filepath.Join(dir, filepath.Base(name))
	if filepath.Clean(to) == filepath.Clean(name) {
		return cli.Exit(cli.Misused, fmt.Errorf("%s is what is read; allowed: another directory with -o", name))
	}
	return writeAll(stdout, dir, filepath.Base(name), output{"", text})
}

// output is one file of several whose names begin alike.
type output struct {
	suffix string
	text   []byte
}

// writeAll writes files, and says where; an empty text is not written.
func writeAll(stdout io.Writer, dir, name string, files ...output) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		if len(f.text) == 0 {
			continue
		}
		file := filepath.Join(dir, name+f.suffix)
		if err := replace(file, f.text); err != nil {
			return err
		}
		fmt.Fprintln(stdout, "wrote", file)
	}
	return nil
}

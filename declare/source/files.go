package source

import (
	"errors"
	"io"
	"os"
)

// ReadFiles reads the files that are named; - is standard input. The error
// names each that can't be read.
func ReadFiles(stdin io.Reader, names []string) (files []File, err error) {
	var errs []error
	for _, name := range names {
		f := File{Name: name}
		if name == "-" {
			f.Name = "standard input"
			f.Text, err = io.ReadAll(stdin)
		} else {
			f.Text, err = os.ReadFile(name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		files = append(files, f)
	}
	return files, errors.Join(errs...)
}

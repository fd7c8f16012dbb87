package source

import (
	"io"
	"os"
)

// ReadFiles reads the files that are named; - is standard input.
func ReadFiles(stdin io.Reader, names []string) (files []File, err error) {
	for _, name := range names {
		f := File{Name: name}
		if name == "-" {
			f.Name = "standard input"
			f.Text, err = io.ReadAll(stdin)
		} else {
			f.Text, err = os.ReadFile(name)
		}
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

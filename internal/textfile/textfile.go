// Package textfile reads the files that people write: configurations, tables of
// keys, declarations.
//
// It owns how large one may be. It must not know what is in it. It is all in
// [Read].
package textfile

import (
	"fmt"
	"io"
	"os"
)

// most is far beyond anything that people write: a larger file is another one.
const most = 1 << 20

// Read takes anything that can be read, a pipe too, but not without end. what is
// the file's kind for the error, such as "a configuration". mode has the
// permissions of the file that was read, for those that guard a secret.
func Read(path, what string) (text []byte, mode os.FileMode, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	text, err = io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(text) > most {
		err = fmt.Errorf("%s has more than 1 MiB: it can't be %s", path, what)
	}
	return text, info.Mode().Perm(), err
}

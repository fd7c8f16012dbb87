package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// ReplaceIn is [WriteFile] (mode 0600) in a directory in which somebody else
// may write who is not trusted, such as Envoy's user: nothing that stands there
// leads to a file elsewhere. The file is given to a user and group, if uid is
// above 0 and another's.
func ReplaceIn(root *os.Root, name string, content []byte, uid int) error {
	next := "." + name + ".new"
	if err := root.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(next, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if uid > 0 && uid != os.Geteuid() {
		err = errors.Join(err, f.Chown(uid, uid))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = root.Rename(next, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(next))
	}
	return nil
}

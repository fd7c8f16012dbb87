// Package durable keeps what the control channel may not forget: files that are
// whole or not there, locks between processes, and a record of what was used.
//
// It must not know what it keeps. Start reading at [WriteFile], then [Once].
package durable

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// MakeDir makes a directory in one that exists. What root makes in a data
// directory belongs to the directory's owner, as whom the control plane runs.
func MakeDir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil
		}
		return err
	}
	return adopt(path)
}

// adopt gives a path to the owner of the directory that it is in.
func adopt(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var dir, own unix.Stat_t
	if err := errors.Join(unix.Stat(filepath.Dir(path), &dir), unix.Stat(path, &own)); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if own.Uid == dir.Uid && own.Gid == dir.Gid {
		return nil
	}
	return os.Chown(path, int(dir.Uid), int(dir.Gid))
}

// WriteFile replaces a file as a whole, or not at all, also across a crash.
func WriteFile(path string, content []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), adopt(f.Name()), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Lock holds an advisory lock on a file until the returned function is called.
func Lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := adopt(path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, f.Close())
		}
	}
}

package envoy

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"patchbay/identity/durable"
)

// MayChangeUser reports whether this process may run Envoy under another user,
// give files away to it, and end it: as root, or with the capabilities SETUID,
// SETGID, CHOWN and KILL.
func MayChangeUser() bool {
	if os.Geteuid() == 0 {
		return true
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	const need = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_CHOWN | 1<<unix.CAP_KILL
	return data[0].Effective&need == need
}

// dropAmbient takes from this thread what a service manager gave the agent for
// itself, so that Envoy, which is started from it, has no capability. Root
// loses its capabilities with the change of user.
func dropAmbient() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("drop ambient capabilities: %w", err)
	}
	return nil
}

// WriteFiles writes what Envoy starts with into dir, by name, for its user; 0 is
// this process's. The error says which directory above keeps that user out.
func WriteFiles(dir string, files map[string][]byte, uid int) error {
	if uid > 0 && uid != os.Geteuid() {
		if err := reachable(dir, uid); err != nil {
			return err
		}
	}
	// The directory is Envoy's user's, whom this process does not trust.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("write Envoy's configuration: %w", err)
	}
	defer root.Close()
	for name, content := range files {
		if err := durable.ReplaceIn(root, name, content, uid); err != nil {
			return fmt.Errorf("write Envoy's configuration: %w", err)
		}
	}
	return nil
}

func reachable(state string, uid int) error {
	for dir := filepath.Dir(state); ; dir = filepath.Dir(dir) {
		i, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("state directory: %w", err)
		}
		if st, ok := i.Sys().(*syscall.Stat_t); ok && i.Mode().Perm()&0o001 == 0 && int(st.Uid) != uid {
			return fmt.Errorf("Envoy runs as user %d, which can't reach the state directory %s: %s is closed to it (mode %04o); use another --state, or another --envoy-uid", uid, state, dir, i.Mode().Perm())
		}
		if dir == "/" {
			return nil
		}
	}
}

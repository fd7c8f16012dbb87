package envoy

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
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

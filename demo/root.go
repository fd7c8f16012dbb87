package demo

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// insideVar is set in a demo that is root only of namespaces of its own.
const insideVar = "PATCHBAY_DEMO_USER_NAMESPACE"

// becomeRoot starts this program again as the root of a user namespace: it may
// make network namespaces there, and nothing on the machine outside. It
// returns only if that is not possible.
func becomeRoot() error {
	unshare, err := exec.LookPath("unshare")
	self, selfErr := os.Executable()
	if err == nil && selfErr == nil && exec.Command(unshare, "-Urnm", "true").Run() == nil {
		args := append([]string{"unshare", "-Urnm", "sh", "-c", `mount -t tmpfs none /run && exec "$0" "$@"`, self}, os.Args[1:]...)
		err = syscall.Exec(unshare, args, append(os.Environ(), insideVar+"=1"))
	}
	return fmt.Errorf("%w: this user may not make namespaces (unshare -Urnm: %v): run `sudo make demo`, or see the same mesh with `docker compose up`", ErrNotHere, err)
}

// envoyUID is the user of the Envoys: in a user namespace there is only one.
func envoyUID() int {
	if os.Getenv(insideVar) != "" {
		return 0
	}
	return 101
}

package envoytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// clock makes the wall clock of a process wrong by $SKEW_SECONDS. Other
// libraries for that find the functions that they replace at start, in which
// Envoy's allocator locks up; this one asks the kernel.
const clock = `#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t c, struct timespec *t) {
	int r = syscall(SYS_clock_gettime, c, t);
	const char *by = getenv("SKEW_SECONDS");
	if (r == 0 && by && (c == CLOCK_REALTIME || c == CLOCK_REALTIME_COARSE)) t->tv_sec += atol(by);
	return r;
}
time_t time(time_t *p) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	if (p) *p = t.tv_sec;
	return t.tv_sec;
}
int gettimeofday(struct timeval *v, void *zone) {
	struct timespec t;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	v->tv_sec = t.tv_sec;
	v->tv_usec = t.tv_nsec / 1000;
	return 0;
}
`

// StartAt is [Start] for an Envoy whose clock is wrong by whole seconds. Its
// timers are right. It needs gcc.
func StartAt(t testing.TB, by time.Duration, bootstrap []byte, admin string, args ...string) *Envoy {
	t.Helper()
	if by == 0 {
		return Start(t, bootstrap, admin, "", args...)
	}
	dir := t.TempDir()
	source, library := filepath.Join(dir, "clock.c"), filepath.Join(dir, "clock.so")
	if err := os.WriteFile(source, []byte(clock), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "gcc", "-shared", "-fPIC", "-O1", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return start(t, []string{"LD_PRELOAD=" + library, fmt.Sprintf("SKEW_SECONDS=%d", by/time.Second)}, bootstrap, admin, "", args)
}

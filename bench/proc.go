package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Mono is the machine's monotonic clock in nanoseconds: one clock for all
// processes of a run.
func Mono() int64 {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// SelfCPU is the processor time, user and system, that this process has used.
func SelfCPU() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// CPU is the processor time that a process has used, in ticks of 10 ms.
func CPU(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name may hold spaces: count from behind its closing bracket.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is cut off", pid)
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

// RSS is the resident memory of a process in bytes.
func RSS(pid int) (float64, error) {
	text := field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
	kb, err := strconv.Atoi(strings.TrimSuffix(text, " kB"))
	return float64(kb) * 1024, err
}

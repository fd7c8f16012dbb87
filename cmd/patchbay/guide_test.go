package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/controlplane"
	"patchbay/internal/envoytest"
)

// guide is a page of docs/guides as the script of a test. Its blocks are carried
// out in their order:
//
//   - json is deployed: to the workload whose name, and a colon, stand above it.
//   - sh runs in bash: `curl` is in the task of the workload above it, or of the
//     frontend. If text follows, the commands run until they print its lines in
//     their order, others between them; "…" stands for anything. Where each line
//     is a command of patchbay's, all but the last run once. The ports are those
//     of the mesh here.
type guide struct {
	t      *testing.T
	page   string
	env    []string          // of the commands, besides the test's own
	ports  map[string]uint16 // of aliases, by those of the page
	deploy func(workload, declared string)
	in     func(workload string) *member // nil: the commands call nobody
	dir    string                        // where they run; patchbay is in it
}

// guide is a page whose commands speak to the plane.
func (p *plane) guide(page string, ports map[string]uint16) *guide {
	return newGuide(p.t, page, ports, "PATCHBAY_ADMIN=unix:"+controlplane.AdminSocket(p.cfg.Data))
}

func newGuide(t *testing.T, page string, ports map[string]uint16, env ...string) *guide {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g := &guide{t: t, page: page, ports: ports, env: env, dir: t.TempDir()}
	if err := os.Symlink(program, filepath.Join(g.dir, "patchbay")); err != nil {
		t.Fatal(err)
	}
	return g
}

// step is one block of a page, and what it shows of its output.
type step struct{ workload, kind, text, shows string }

var guideStep = regexp.MustCompile("(?s)(?:(?:^|\n)([a-z-]+):\n\n)?```(json|sh)\n(.*?)```(?:\\s*```text\n(.*?)```)?")

// steps are the blocks of the page, at least so many.
func (g *guide) steps(least int) (all []step) {
	g.t.Helper()
	text, err := os.ReadFile("../../docs/guides/" + g.page)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, s := range guideStep.FindAllStringSubmatch(string(text), -1) {
		all = append(all, step{s[1], s[2], s[3], s[4]})
	}
	if len(all) < least {
		g.t.Fatalf("%d blocks", len(all))
	}
	return all
}

// run carries out all blocks of the page.
func (g *guide) run(least int) {
	g.t.Helper()
	for _, s := range g.steps(least) {
		g.do(s)
	}
}

// do carries out one block.
func (g *guide) do(s step) {
	g.t.Helper()
	if s.kind == "json" {
		g.deploy(s.workload, s.text)
		return
	}
	env := append(os.Environ(), "PATH="+g.dir+":"+os.Getenv("PATH"))
	if g.in != nil {
		env = append(env, "CURL_HOME="+g.names(g.in(cmp.Or(s.workload, "frontend"))))
	}
	commands, printed := g.here(s.text), ""
	if lines := strings.Split(strings.TrimSpace(commands), "\n"); allOurs(lines) {
		for _, once := range lines[:len(lines)-1] {
			out, err := g.bash(once, env)
			if err != nil {
				g.t.Fatalf("%s: %v\n%s", once, err, out)
			}
			printed += out
		}
		commands = lines[len(lines)-1]
	}
	want := regexp.MustCompile(pageLines(g.here(s.shows)))
	envoytest.Eventually(g.t, time.Minute, func() error {
		out, err := g.bash(commands, env)
		if ended, is := errors.AsType[*exec.ExitError](err); is && ended.ExitCode() == exitProblems && s.shows != "" {
			err = nil // it has found something
		}
		if err == nil && !want.MatchString(printed+out) {
			err = fmt.Errorf("it does not show\n%s", s.shows)
		}
		if err != nil {
			return fmt.Errorf("%s%w\n%s", s.text, err, printed+out)
		}
		return nil
	})
}

// allOurs reports whether each line is a command of patchbay's.
func allOurs(lines []string) bool {
	return !slices.ContainsFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "patchbay ") })
}

func (g *guide) bash(commands string, env []string) (string, error) {
	cmd := exec.CommandContext(g.t.Context(), "bash", "-euo", "pipefail", "-c", commands)
	cmd.Dir, cmd.Env = g.dir, append(env, g.env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// here is a text of the page with the ports of this mesh.
func (g *guide) here(text string) string {
	for there, here := range g.ports {
		text = strings.ReplaceAll(text, ":"+there, fmt.Sprintf(":%d", here))
	}
	return text
}

// names has curl resolve as the hosts file of a task does. It returns the folder
// of curl's configuration.
func (g *guide) names(m *member) string {
	var config strings.Builder
	hosts, err := os.ReadFile(m.hosts)
	if err != nil {
		g.t.Fatal(err)
	}
	for line := range strings.Lines(string(hosts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[0], "127.") && strings.HasSuffix(f[1], ".demo") {
			fmt.Fprintf(&config, "resolve = \"%s:%d:%s\"\n", f[1], g.ports["8080"], f[0])
		}
	}
	if err := os.WriteFile(filepath.Join(g.dir, ".curlrc"), []byte(config.String()), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return g.dir
}

// pageLines match an output that has all lines of what is shown, in order.
func pageLines(shows string) string {
	var lines []string
	for l := range strings.Lines(shows) {
		if fields := strings.Fields(l); len(fields) > 0 {
			for i, w := range fields {
				fields[i] = strings.ReplaceAll(regexp.QuoteMeta(w), "…", ".*")
			}
			lines = append(lines, `^(?:.*\s)?`+strings.Join(fields, " +")+`(?:[ ,;].*)?\n`)
		}
	}
	return `(?m)` + strings.Join(lines, `(?:.*\n)*?`)
}

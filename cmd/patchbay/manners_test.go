package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// program is where the program is named, as it is called.
var program = regexp.MustCompile(`\bpatchbay +`)

// meant is the command of a line, nil if it names the program with none that
// there is, and what follows.
func meant(line string) (cmd *cobra.Command, rest []string, named bool) {
	for _, at := range program.FindAllStringIndex(line, -1) {
		named = true
		words := regexp.MustCompile(`'[^']*'|"[^"]*"`).ReplaceAllString(strings.TrimSpace(line[at[1]:]), "word")
		words, _, _ = strings.Cut(regexp.MustCompile(` [|<>&#].*|[)].*| {2,}.*`).ReplaceAllString(words, "\x00"), "\x00")
		root := newRoot()
		if c, args, err := root.Find(strings.Fields(words)); err == nil && c != root {
			return c, args, true
		}
	}
	return nil, nil, named
}

// eachCommand calls f for each command.
func eachCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, f)
	}
}

// TestExamplesAreReal: each example of a command's help begins with a command
// that there is, and uses flags that it has, and the command's own is among them.
func TestExamplesAreReal(t *testing.T) {
	seen := 0
	eachCommand(newRoot(), func(c *cobra.Command) {
		own := false
		text := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(c.Example, " ")
		for l := range strings.Lines(text) {
			cmd, rest, named := meant(l)
			if !named {
				continue
			}
			if cmd == nil {
				t.Errorf("%s: there is no command: %s", c.CommandPath(), l)
				continue
			}
			if err := cmd.ParseFlags(rest); err != nil {
				t.Errorf("%s: %s: %v", c.CommandPath(), l, err)
			}
			if cmd.Args != nil && !strings.Contains(l, " -- ") {
				if err := cmd.Args(cmd, cmd.Flags().Args()); err != nil {
					t.Errorf("%s: %s: %v", c.CommandPath(), l, err)
				}
			}
			seen++
			own = own || strings.HasPrefix(cmd.CommandPath(), c.CommandPath())
		}
		if !own {
			t.Errorf("%s is not among its examples:\n%s", c.CommandPath(), c.Example)
		}
	})
	if seen < 30 {
		t.Errorf("%d examples", seen)
	}
}

// TestManPages: every command has a manual page with its flags and examples.
// PATCHBAY_MAN names the directory where `make man` wants them.
func TestManPages(t *testing.T) {
	dir := os.Getenv("PATCHBAY_MAN")
	if dir == "" {
		dir = t.TempDir()
	}
	root := newRoot()
	root.DisableAutoGenTag = true
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := doc.GenManTree(root, &doc.GenManHeader{Title: "PATCHBAY", Section: "1", Source: "patchbay", Manual: "patchbay"}, dir); err != nil {
		t.Fatal(err)
	}
	eachCommand(root, func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" || c.Parent() != nil && c.Parent().Name() == "completion" || c.Name() == "completion" {
			return
		}
		page, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"))
		if err != nil {
			t.Error(err)
			return
		}
		for _, part := range []string{".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH EXAMPLE"} {
			if !bytes.Contains(page, []byte(part)) {
				t.Errorf("%s: its page lacks %s", c.CommandPath(), part)
			}
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !bytes.Contains(bytes.ReplaceAll(page, []byte(`\-`), []byte("-")), []byte("--"+f.Name)) {
				t.Errorf("%s: its page lacks --%s", c.CommandPath(), f.Name)
			}
		})
	})
}

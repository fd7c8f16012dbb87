package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"patchbay/cmd/patchbay/cli"
)

var update = flag.Bool("update", false, "write docs/reference/cli.md")

const pageHead = "# The command line\n\n" + `<!-- Written by "make docs" from the commands themselves. Do not edit. -->

One program, a subcommand for each part. This page is what ` + "`--help`" + ` prints.

| exit code | means |
|---|---|
`

const pageOutput = `
What a command prints for people or programs goes to standard output; logs and errors go to standard error. ` + "`--json`" + `, where there is one, prints one JSON document and nothing else.
`

// cliPage is the whole of docs/reference/cli.md.
func cliPage(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(pageHead)
	for code, means := range cli.Codes {
		fmt.Fprintf(&b, "| %d | %s |\n", code, strings.ReplaceAll(means, "\n", " "))
	}
	b.WriteString(pageOutput)
	var add func(c *cobra.Command)
	add = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" {
			return
		}
		c.InitDefaultHelpFlag()
		var help strings.Builder
		c.SetOut(&help)
		if err := c.Help(); err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "\n## %s\n\n```\n%s\n```\n", c.CommandPath(), strings.TrimSpace(help.String()))
		for _, sub := range c.Commands() {
			add(sub)
		}
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.InitDefaultVersionFlag()
	add(root)
	return b.String()
}

// TestPage: docs/reference/cli.md is what the commands say of themselves.
func TestPage(t *testing.T) {
	const file = "../../docs/reference/cli.md"
	got := cliPage(newRoot())
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("docs/reference/cli.md is not current; run `make docs`:\n%s", d)
	}
}

// TestHelpTeaches: every command says what it does, and shows how it is used.
func TestHelpTeaches(t *testing.T) {
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		if c.Short == "" || c.Long == "" && c.HasSubCommands() || c.Example == "" {
			t.Errorf("%s lacks a description or an example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(newRoot())
}

package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"patchbay/audit"
	"patchbay/cmd/patchbay/cli"
	"patchbay/internal/count"
)

func newAuditCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Check the audit log",
		Long: `The control plane writes down who joined, was refused, or got a certificate, and
what was done through its admin interface: one line each in audit.log, in its
data directory.`,
		Example: `  patchbay audit verify data/audit.log`,
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newAuditVerifyCmd())
	return c
}

func newAuditVerifyCmd() *cobra.Command {
	var noted string
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Prove that nobody has changed an audit log",
		Long: `Checks every line of an audit log (audit.log in the control plane's data
directory): that it is as it was written, and that none is missing, was added or
was moved. What is wrong is named by its line, and the exit code is 4. The log
may be in use.

The file FILE.head beside it says how far the log goes. Whoever can rewrite both
can rewrite history; so keep the line that this command prints somewhere else,
and give it back with --noted.`,
		Example: `  patchbay audit verify data/audit.log
  patchbay audit verify data/audit.log --noted 8123:9f86d081884c7d65…`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var anchor audit.Anchor
			if noted != "" {
				var err error
				if anchor, err = audit.ParseAnchor(noted); err != nil {
					return cli.Usage(c, fmt.Errorf("--noted: %w", err))
				}
			}
			r, err := audit.Verify(args[0], anchor)
			if err != nil {
				return err
			}
			return printAudit(c.OutOrStdout(), args[0], r, asJSON)
		},
	}
	c.Flags().StringVar(&noted, "noted", "", "SEQ:HASH that an earlier run printed, kept elsewhere")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printAudit(w io.Writer, file string, r audit.Report, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(map[string]any{
			"version": 1, "file": file, "ok": len(r.Problems) == 0, "lines": r.Lines, "seq": r.Seq, "hash": r.Hash,
			"problems": append([]audit.Problem{}, r.Problems...), "notes": append([]audit.Problem{}, r.Notes...),
		}); err != nil {
			return err
		}
	} else {
		for _, p := range r.Problems {
			fmt.Fprintf(w, "%s:%d: %s\n", file, p.Line, p.Text)
		}
		for _, p := range r.Notes {
			fmt.Fprintf(w, "%s:%d: note: %s\n", file, p.Line, p.Text)
		}
		if len(r.Problems) == 0 {
			fmt.Fprintf(w, "%s: %s, unchanged. Keep this elsewhere: %d:%s\n", file, count.Of(r.Lines, "line"), r.Seq, r.Hash)
		}
	}
	if n := len(r.Problems); n > 0 {
		return cli.Exit(cli.Problems, fmt.Errorf("%s: %s: it is not what was written", file, count.Of(n, "problem")))
	}
	return nil
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"patchbay/admin"
	"patchbay/audit"
	"patchbay/internal/count"
)

// auditFile is the audit log of a control plane.
func auditFile(data string) string { return filepath.Join(data, "audit.log") }

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
					return usage(c, fmt.Errorf("--noted: %w", err))
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
		return &exitError{exitProblems, fmt.Errorf("%s: %s: it is not what was written", file, count.Of(n, "problem"))}
	}
	return nil
}

// adminHandler serves the admin interface, and has the audit log told of every
// action and of everybody who was refused.
func (c *control) adminHandler(o admin.Options) http.Handler {
	h := admin.Handler(o)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			h.ServeHTTP(w, r) // reading, and gRPC
			return
		}
		seen := &statusWriter{ResponseWriter: w}
		seen.begun = sync.OnceFunc(func() { c.auditCall(r, seen.status) })
		h.ServeHTTP(seen, r)
		seen.WriteHeader(http.StatusOK) // of an answer without a word
	})
}

// auditCall records an action, and every caller without its token, when its
// answer begins: some go on for long.
func (c *control) auditCall(r *http.Request, status int) {
	if r.Method != http.MethodPost && status != http.StatusUnauthorized {
		return
	}
	e := audit.Event{Kind: audit.AdminCall, Actor: "operator", Method: r.Method + " " + r.URL.Path, Subject: r.URL.RawQuery, Decision: audit.Allowed, Reason: fmt.Sprint("status ", status)}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		e.Peer = host
	}
	if t := r.TLS; t != nil && len(t.VerifiedChains) > 0 {
		e.Actor += " " + t.VerifiedChains[0][0].Subject.String()
	}
	if status >= http.StatusBadRequest {
		e.Decision = audit.Denied
	}
	if status == http.StatusUnauthorized {
		e.Actor = ""
	}
	c.audit.Record(e)
}

type statusWriter struct {
	http.ResponseWriter
	status int // 0 before the answer begins
	begun  func()
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	w.begun()
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController through.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

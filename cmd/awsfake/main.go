// Command awsfake stands in for the parts of AWS that patchbay uses. It only
// parses, builds and wires; the work is done in internal/awsfake.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patchbay/internal/awsfake/program"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is one that exit code 2 is for.
type usageError struct{ error }

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return 0
	}
	fmt.Fprintln(stderr, "awsfake:", err)
	if _, is := errors.AsType[usageError](err); is {
		return 2
	}
	return 1
}

func newRoot() *cobra.Command {
	o := program.Options{}
	c := &cobra.Command{
		Use:   "awsfake",
		Short: "Stands in for AWS: Cloud Map, Private CA, Secrets Manager, STS, ECS, task metadata",
		Long: `Speaks the protocols of the parts of AWS that patchbay uses, to the unmodified
SDK, with AWS's documented limits: for laptops and tests, never in production.
It keeps everything in memory and asks nobody for a key, except tasks' roles.

At its start it prints a line of JSON: "url" is the endpoint of all APIs,
"metadata" that of the task metadata (version 4), "control" that of tests, and
"ca" the ARN of a private CA.

The control endpoint:
  PUT /tasks/ID     start a task (ID: 32 hexadecimal digits) from a JSON body
                    {"cluster","service","role","address","zone","container",
                    "ports"}; answers the environment of its containers
  DELETE /tasks/ID  stop it
  POST /faults      trouble, as --fault
  DELETE /faults    no more trouble
  GET /ca           the certificate of the CA, in PEM
  GET /calls        how often each operation was asked for
  GET /bill         what these calls cost

A fault is words and key=value separated by commas: service=, operation=, skip=,
times=, latency=, error=, status=, hang (no answer), lost (done, not answered),
cut (half an answer).`,
		Example: `  awsfake --short-lived --fault operation=IssueCertificate,error=ThrottlingException,times=3 &
  curl -d operation=GetSecretValue,latency=2s http://127.0.0.1:18012/faults
  curl http://127.0.0.1:18012/bill`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Log = slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			for _, f := range o.Faults {
				if _, err := program.ParseFault(f); err != nil {
					return usageError{err}
				}
			}
			p, err := program.Open(c.Context(), o)
			if err != nil {
				return err
			}
			if err := json.NewEncoder(c.OutOrStdout()).Encode(map[string]string{
				"url": p.URL("listen"), "metadata": p.URL("metadata"), "control": p.URL("control"), "ca": p.CA(),
			}); err != nil {
				return err
			}
			return p.Run(c.Context())
		},
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nsee 'awsfake --help'", err)}
	})
	addFlags(c.Flags(), &o)
	return c
}

func addFlags(f *pflag.FlagSet, o *program.Options) {
	f.StringVar(&o.Listen, "listen", "127.0.0.1:18010", "address and port of the APIs; port 0 takes a free one")
	f.StringVar(&o.Metadata, "metadata", "127.0.0.1:18011", "the same of the task metadata endpoint")
	f.StringVar(&o.Control, "control", "127.0.0.1:18012", "the same of the control endpoint")
	f.StringVar(&o.Region, "region", "us-east-1", "AWS region")
	f.StringVar(&o.Account, "account", "111122223333", "AWS account")
	f.StringVar(&o.KeyAlgorithm, "ca-key", "EC_secp384r1", "key algorithm of the CA, in Private CA's words")
	f.StringVar(&o.SigningAlgorithm, "ca-signature", "SHA512WITHECDSA", "its signing algorithm")
	f.BoolVar(&o.ShortLived, "short-lived", false, "its usage mode is SHORT_LIVED_CERTIFICATE: seven days at most")
	f.IntVar(&o.InProgress, "in-progress", 1, "how often GetCertificate answers RequestInProgressException for a new certificate")
	f.IntVar(&o.Unseen, "unseen", 0, "how often it answers ResourceNotFoundException before that")
	f.DurationVar(&o.Lag, "secrets-lag", 0*time.Second, "how long secrets are read as they were before a write")
	f.BoolVar(&o.Unlimited, "unlimited", false, "without AWS's rates")
	f.StringArrayVar(&o.Faults, "fault", nil, "a fault from the start; may be repeated")
}

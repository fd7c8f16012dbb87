package operate

import (
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"patchbay/cmd/patchbay/cli"
	"patchbay/cmd/patchbay/operate/complete"
	"patchbay/diagnose/prove"
	"patchbay/diagnose/show"
	"patchbay/diagnose/verify"
)

// junit is the output that verify has besides the others.
const junit = "junit"

// verifyOptions are the flags of verify.
type verifyOptions struct {
	operator
	prove.Wanted
	watch    bool
	interval time.Duration
}

func newVerifyCmd(version string) *cobra.Command {
	o := verifyOptions{Wanted: prove.Wanted{Tool: "patchbay " + version, Here: cli.HostName()}}
	c := &cobra.Command{
		Use:   "verify [SERVICE]",
		Short: "Prove that a service is encrypted, and with which certificate",
		Long: `Makes the handshakes that an auditor would make against every endpoint of a
service: TLS 1.3 must be spoken, TLS 1.2 and older and plain text must be
refused; the certificate must name the service, chain to what callers trust, be
valid, short-lived and strong, and be the one that was issued last. Without
SERVICE it verifies every service that has TLS. SERVICE may be given without its
namespace where only one has it.

The handshakes are made by the agent of another task, so that the mesh's own
network is what is judged; --from NODE names the task, and --from here makes
them on this machine.

With --audit FILE, the control plane's audit log or a copy with its FILE.head, each
certificate must be one whose issue is written there, for that name and key, and
the log must be as it was written ('patchbay audit verify').

A port that patchbay does not manage, such as that of a real ECS Service
Connect task, is verified with --endpoint, --name and --ca.

It exits with 4 if a check fails. The report ends with its SHA-256.`,
		Example: `  patchbay verify backend.prod
  patchbay verify -o junit > encryption.xml
  patchbay verify backend.prod --audit /var/lib/patchbay/audit.log
  patchbay verify backend.prod --watch
  patchbay verify --endpoint 10.0.1.5:15010 --name backend.prod --ca roots.pem`,
		Args:              cobra.MaximumNArgs(1),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c, args) },
		ValidArgsFunction: complete.Args(o.asked, complete.Encrypted),
	}
	o.flags(c.Flags())
	f := c.Flags()
	f.Lookup("output").Usage += ", " + junit
	f.StringArrayVar(&o.Endpoints, "endpoint", nil, "an IP:PORT to verify instead of the service's own (repeat for more)")
	f.StringVar(&o.CA, "ca", "", "file with the roots to trust, PEM (default: what the mesh trusts for the service)")
	f.StringVar(&o.Name, "name", "", "the DNS name that the certificate must have (default: the service's)")
	f.StringVar(&o.From, "from", prove.FromAuto, "who makes the handshakes: here, the NODE of a task, or auto, another task's agent")
	f.StringVar(&o.Audit, "audit", "", "hold serials and keys against this audit log")
	f.DurationVar(&o.MaxLife, "max-life", verify.DefaultMaxLife, "how long a certificate may live")
	f.BoolVarP(&o.watch, "watch", "w", false, "verify again and again; ends with 4 as soon as a check fails")
	f.DurationVar(&o.interval, "interval", 10*time.Second, "how often, with --watch")
	return c
}

func (o *verifyOptions) run(c *cobra.Command, args []string) error {
	format := o.output
	if format == junit {
		o.output = show.Text
	}
	p, err := o.printer(c)
	if err != nil {
		return err
	}
	if len(o.Endpoints) > 0 && o.Name == "" && len(args) == 0 {
		return cli.Usage(c, errors.New("with --endpoint, the name of its certificate is needed: --name"))
	}
	o.Client = o.client
	once := func() error {
		done := show.Wait(c.ErrOrStderr(), "making handshakes")
		reports, err := o.Reports(c.Context(), args...)
		done()
		if err != nil {
			return cli.Hint(err)
		}
		return report(c.OutOrStdout(), p, format, reports)
	}
	if o.watch {
		return every(c.Context(), p, o.interval, once)
	}
	return once()
}

func report(w io.Writer, p *show.Printer, format string, reports []verify.Report) error {
	var err error
	failed := 0
	for _, r := range reports {
		failed += r.Failed()
		if len(r.Endpoints) == 0 {
			failed++
		}
	}
	switch {
	case format == junit:
		err = verify.JUnit(w, reports)
	case p.ForPeople():
		p.Reports(reports)
	default:
		err = p.Value(reports)
	}
	if err == nil && failed > 0 {
		return cli.Found(failed, "failed check")
	}
	return err
}

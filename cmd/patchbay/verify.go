package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
	"patchbay/audit"
	"patchbay/diagnose"
	"patchbay/diagnose/show"
	"patchbay/diagnose/verify"
	"patchbay/internal/count"
)

// junit is the output that verify has besides the others.
const junit = "junit"

// verifyOptions are the flags of verify.
type verifyOptions struct {
	operator
	endpoints []string
	ca, name  string
	from      string
	maxLife   time.Duration
	watch     bool
	interval  time.Duration
	audit     string
}

// Where probes are made from.
const (
	fromAuto = "auto"
	fromHere = "here"
)

func newVerifyCmd() *cobra.Command {
	o := verifyOptions{}
	c := &cobra.Command{
		Use:   "verify [SERVICE]",
		Short: "Prove that a service is encrypted, and with which certificate",
		Long: `Makes the handshakes that an auditor would make against every endpoint of a
service: TLS 1.3 must be spoken, TLS 1.2 and older and plain text must be
refused; the certificate must name the service, chain to what callers trust, be
valid, short-lived and strong, and be the one that was issued last. Without
SERVICE it verifies every service that has TLS.

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
		ValidArgsFunction: o.completeNames,
	}
	o.flags(c.Flags())
	f := c.Flags()
	f.Lookup("output").Usage += ", " + junit
	f.StringArrayVar(&o.endpoints, "endpoint", nil, "an IP:PORT to verify instead of the service's own (repeat for more)")
	f.StringVar(&o.ca, "ca", "", "file with the roots to trust, PEM (default: what the mesh trusts for the service)")
	f.StringVar(&o.name, "name", "", "the DNS name that the certificate must have (default: the service's)")
	f.StringVar(&o.from, "from", fromAuto, "who makes the handshakes: here, the NODE of a task, or auto, another task's agent")
	f.StringVar(&o.audit, "audit", "", "hold serials and keys against this audit log")
	f.DurationVar(&o.maxLife, "max-life", verify.DefaultMaxLife, "how long a certificate may live")
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
	if len(o.endpoints) > 0 && o.name == "" && len(args) == 0 {
		return usage(c, errors.New("with --endpoint, the name of its certificate is needed: --name"))
	}
	once := func() error {
		done := show.Wait(c.ErrOrStderr(), "making handshakes")
		reports, err := o.reports(c.Context(), args)
		done()
		if err != nil {
			return err
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
		return problems(failed, "failed check")
	}
	return err
}

// reports verifies one service, or all that have TLS.
func (o *verifyOptions) reports(ctx context.Context, args []string) ([]verify.Report, error) {
	var names []string
	switch {
	case len(args) > 0:
		names = args
	case o.name != "":
		names = []string{o.name}
	default:
		st, _, err := o.status(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range st.Services {
			if s.TLS != nil && len(s.External) == 0 {
				names = append(names, s.Name)
			}
		}
		if names == nil {
			return nil, errors.New("no service of the mesh has TLS: declare `tls` in serviceConnectConfiguration")
		}
	}
	var out []verify.Report
	for _, n := range names {
		r, err := o.verify(ctx, n)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func (o *verifyOptions) verify(ctx context.Context, name string) (verify.Report, error) {
	var roots *x509.CertPool
	if o.ca != "" {
		pem, err := os.ReadFile(o.ca)
		if roots = x509.NewCertPool(); err != nil || !roots.AppendCertsFromPEM(pem) {
			return verify.Report{}, fmt.Errorf("roots: %s: %w", o.ca, errors.Join(err, errors.New("no PEM certificate can be read from it")))
		}
	}
	d := &api.ServiceDetail{Service: api.Service{Name: name}}
	if len(o.endpoints) == 0 {
		client, err := o.client()
		if err != nil {
			return verify.Report{}, err
		}
		if err := client.Get(ctx, "service", url.Values{"name": {name}}, d); err != nil {
			return verify.Report{}, hint(err)
		}
	}
	if len(d.External) > 0 {
		return verify.Report{}, fmt.Errorf("%s is a target outside the mesh, %s: callers' sidecars verify its certificate; 'patchbay explain CLIENT URL --live' makes a call", name, strings.Join(d.External, ", "))
	}
	for _, a := range o.endpoints {
		d.Instances = append(d.Instances, api.Endpoint{Address: a})
	}
	e := verify.Expect{Name: d.Name, Roots: roots, MaxLife: o.maxLife, Callers: diagnose.Callers(d)}
	if o.name != "" {
		e.Name = o.name
	}
	var err error
	if e.Log, err = o.log(); err != nil {
		return verify.Report{}, err
	}
	if roots == nil && d.RootsPEM != "" {
		e.Roots = x509.NewCertPool()
		e.Roots.AppendCertsFromPEM([]byte(d.RootsPEM))
	}
	if d.TLS != nil {
		e.Serial = d.TLS.Serial
	}
	verdicts := make([]verify.Endpoint, len(d.Instances))
	var all sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i, in := range d.Instances {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			verdicts[i] = verify.Judge(o.look(ctx, d, in.Address, e.Name), e, time.Now())
		})
	}
	all.Wait()
	return verify.NewReport(d.Name, "patchbay "+version(), time.Now(), verdicts)
}

// log is what the audit log tells; nil if it is not asked for.
func (o *verifyOptions) log() (*verify.Log, error) {
	if o.audit == "" {
		return nil, nil //nolint:nilnil // it is not asked for
	}
	issued, report, err := audit.Issued(o.audit)
	if err != nil {
		return nil, err
	}
	out := &verify.Log{Issued: map[string]verify.Issued{}}
	if n := len(report.Problems); n > 0 {
		out.Problem = count.Of(n, "problem") + ", the first: " + report.Problems[0].String()
	}
	for serial, e := range issued {
		out.Issued[serial] = verify.Issued{Names: e.SANs, SPKI: e.SPKI}
	}
	return out, nil
}

// look probes a port from where it can be reached.
func (o *verifyOptions) look(ctx context.Context, d *api.ServiceDetail, address, name string) verify.Observation {
	h2 := d.Protocol == "http2" || d.Protocol == "grpc"
	if o.from == fromHere || len(o.endpoints) > 0 {
		here := verify.Probe(ctx, address, name, h2)
		here.From = hostName()
		return here
	}
	there, err := o.lookFrom(ctx, d.Name, address)
	if err != nil {
		return verify.Observation{Address: address, From: o.from, At: time.Now().UTC(), Unreachable: err.Error()}
	}
	return there
}

// lookFrom has an agent probe, another task's if there is one.
func (o *verifyOptions) lookFrom(ctx context.Context, service, address string) (verify.Observation, error) {
	var seen verify.Observation
	client, err := o.client()
	if err != nil {
		return seen, err
	}
	node := o.from
	if node == fromAuto {
		st, _, err := o.status(ctx)
		if err != nil {
			return seen, err
		}
		if node = otherTask(st, address); node == "" {
			return seen, errors.New("no agent is connected that could look: --from here makes the handshakes on this machine")
		}
	}
	err = client.Get(ctx, "handshake", url.Values{"node": {node}, "service": {service}, "address": {address}}, &seen)
	return seen, err
}

func otherTask(st *api.Status, address string) string {
	node := ""
	for _, s := range st.Sidecars {
		if s.Agent == nil || s.Agent.Draining {
			continue
		}
		if !strings.HasPrefix(address, s.Address+":") {
			return s.Node
		}
		node = s.Node
	}
	return node
}

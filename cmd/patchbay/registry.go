package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"patchbay/admin"
	"patchbay/cmd/patchbay/cli"
	"patchbay/config"
	"patchbay/registry"
	"patchbay/registry/host"
	regmetrics "patchbay/registry/metrics"
	"patchbay/registry/sigv4"
)

// registryFlags are those of `patchbay registry`.
type registryFlags struct {
	listen, data, keys, metrics string
	etcd                        config.Etcd
	options                     registry.Options
	log                         config.Log
}

const registryExample = `  patchbay registry --listen 127.0.0.1:18003 &
  export AWS_ENDPOINT_URL_SERVICEDISCOVERY=http://127.0.0.1:18003 AWS_DEFAULT_REGION=us-east-1
  export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any AWS_DISABLE_HOST_PREFIX_INJECTION=true

  aws servicediscovery create-http-namespace --name demo
  aws servicediscovery list-namespaces --query 'Namespaces[].Id'            # ns-…
  aws servicediscovery create-service --name backend --namespace-id ns-…    # srv-…
  aws servicediscovery register-instance --service-id srv-… --instance-id one \
    --attributes AWS_INSTANCE_IPV4=10.0.0.1,AWS_INSTANCE_PORT=8080
  aws servicediscovery discover-instances --namespace-name demo --service-name backend

  # two of them on one etcd
  patchbay registry --listen 127.0.0.1:18003 --etcd http://127.0.0.1:2379 &
  patchbay registry --listen 127.0.0.1:18004 --etcd http://127.0.0.1:2379 &

  # kept on disk, for other machines
  patchbay registry --listen 0.0.0.0:18003 --data /var/lib/patchbay --keys /etc/patchbay/keys.yaml`

func newRegistryCmd() *cobra.Command {
	f := registryFlags{}
	c := &cobra.Command{
		Use:   "registry",
		Short: "Run AWS Cloud Map on this machine",
		Long: `Runs a server that speaks the API of AWS Cloud Map: all 30 operations, with
AWS's rules and errors. Unchanged AWS SDKs, the AWS CLI and boto3 work against
it, and so does 'patchbay serve' (cloudMap.endpoint). 'serve' can also contain
it, which is what a laptop wants.

Without --data it keeps everything in memory and forgets it at its end. With
--data it keeps a file, registry.db, and loses nothing that it has answered.
With --etcd it keeps everything in an etcd cluster (3.4 or newer), and any number
of them serve the same: each answers from memory, and hears in milliseconds
what another has written. Without etcd they go on answering what they know, and
refuse changes (ServiceUnavailable).

On a loopback address it lets everybody in. On any other it asks for a
signature by one of the keys in --keys, a file with mode 0600 such as

  keys:
    control-plane: {secret: AT-LEAST-16-CHARACTERS}
    dashboard: {secret: AT-LEAST-16-CHARACTERS, readOnly: true}

AWS SDKs send DiscoverInstances to the host name of the endpoint with "data-"
in front. So give the server two names, such as cloudmap and data-cloudmap (in
compose: aliases; elsewhere: a line in /etc/hosts). Where there is only an
address, switch the prefix off in the client:
  botocore 1.37.5 and newer (AWS CLI, boto3)  AWS_DISABLE_HOST_PREFIX_INJECTION=true
  boto3, any version                          Config(inject_host_prefix=False)
  any client                                  HTTP_PROXY=http://ADDRESS, endpoint http://cloudmap

An AWS CLI before 2.13 (Debian 12's) and a boto3 before 1.28 do not know
AWS_ENDPOINT_URL_SERVICEDISCOVERY and call AWS: give them --endpoint-url, or
endpoint_url=.

What differs from AWS, leases and the watch: docs/reference/registry.md.`,
		Example: registryExample,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runRegistry(c.Context(), f, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f.add(c.Flags())
	return c
}

func (f *registryFlags) add(flags *pflag.FlagSet) {
	d := config.Default()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:18003", "address and port; port 0 takes a free one")
	flags.StringVar(&f.data, "data", "", "directory to keep the registry in; without it, in memory")
	flags.StringSliceVar(&f.etcd.Endpoints, "etcd", nil, "URLs of etcd's members to keep the registry in, shared with other registries")
	flags.StringVar(&f.etcd.Prefix, "etcd-prefix", config.RegistryPrefix, "of every key in etcd; ends with a slash")
	flags.StringVar(&f.etcd.CAFile, "etcd-ca", "", "file of the CA of etcd's members; default the system's roots")
	flags.StringVar(&f.etcd.CertFile, "etcd-cert", "", "file of the certificate that etcd knows us by")
	flags.StringVar(&f.etcd.KeyFile, "etcd-key", "", "file of its key")
	flags.StringVar(&f.etcd.User, "etcd-user", "", "user of etcd, where the certificate does not name one")
	flags.StringVar(&f.etcd.PasswordFile, "etcd-password-file", "", "file of the user's password")
	flags.StringVar(&f.keys, "keys", "", "file of access keys; needed off loopback")
	flags.StringVar(&f.metrics, "metrics", "", "address and port to serve /metrics (Prometheus) at")
	flags.StringVar(&f.options.Region, "region", "us-east-1", "region in ARNs")
	flags.StringVar(&f.options.Account, "account", "000000000000", "account in ARNs")
	flags.DurationVar(&f.options.OperationDelay, "operation-delay", 0, "how long asynchronous operations take (AWS: seconds)")
	flags.DurationVar(&f.options.HealthDelay, "health-delay", 0, "how long a new custom health takes to be seen (AWS: about 30s)")
	flags.StringVar(&f.log.Level, "log-level", d.Log.Level, "debug, info, warn or error")
	flags.StringVar(&f.log.Format, "log-format", d.Log.Format, "text or json")
}

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm  = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
)

// check lists everything that is wrong, and reads the keys.
func (f *registryFlags) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, _, err := net.SplitHostPort(f.listen); err != nil {
		bad("--listen %q; allowed: IP:PORT, such as 127.0.0.1:18003", f.listen)
	} else if f.keys == "" && !config.Loopback(f.listen) {
		bad("--listen %s can be reached from elsewhere, and there are no --keys; allowed: a loopback address, or a file of access keys", f.listen)
	}
	if len(f.etcd.Endpoints) > 0 {
		for _, p := range f.etcd.Problems() {
			bad("--etcd: %s", p)
		}
		if f.data != "" {
			bad("--etcd stands beside --data; allowed: one of the two")
		}
	}
	if f.keys != "" {
		var err error
		if f.options.Keys, err = sigv4.LoadKeys(f.keys); err != nil {
			errs = append(errs, err)
		}
	}
	if f.metrics != "" {
		if _, _, err := net.SplitHostPort(f.metrics); err != nil {
			bad("--metrics %q; allowed: IP:PORT, such as 127.0.0.1:18004", f.metrics)
		}
	}
	if !accountForm.MatchString(f.options.Account) {
		bad("--account %q; allowed: twelve digits", f.options.Account)
	}
	if !regionForm.MatchString(f.options.Region) {
		bad("--region %q; allowed: a region such as us-east-1", f.options.Region)
	}
	f.checkRest(bad)
	if err := errors.Join(append(errs, cli.WrongLog(f.log))...); err != nil {
		return cli.Exit(cli.Misused, err)
	}
	return nil
}

func (f *registryFlags) checkRest(bad func(format string, args ...any)) {
	if d := f.options.OperationDelay; d < 0 || d > time.Hour {
		bad("--operation-delay %s; allowed: 0s to 1h", d)
	}
	if d := f.options.HealthDelay; d < 0 || d > time.Hour {
		bad("--health-delay %s; allowed: 0s to 1h", d)
	}
}

func runRegistry(ctx context.Context, f registryFlags, out, errOut io.Writer) error {
	if err := f.check(); err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f.options.Log, f.options.Metrics = cli.Log(f.log, errOut), regmetrics.New(metrics)
	g, ctx := errgroup.WithContext(ctx)
	if f.metrics != "" {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", f.metrics)
		if err != nil {
			return fmt.Errorf("--metrics: %w", err)
		}
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
		g.Go(func() error { return admin.Serve(ctx, l, mux, f.options.Log) })
	}
	in, err := host.Store(ctx, f.data, &f.etcd, f.options.Log)
	if err != nil {
		return err
	}
	r, err := host.Open(ctx, "--listen", f.listen, in, f.options)
	if err != nil {
		return err
	}
	g.Go(func() error { return r.Run(ctx) })
	where := "in memory"
	if f.data != "" {
		where = "kept in " + f.data
	}
	if len(f.etcd.Endpoints) > 0 {
		where = "kept in etcd at " + strings.Join(f.etcd.Endpoints, ", ") + " beneath " + f.etcd.Prefix
	}
	who := "AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any "
	if f.keys != "" {
		who = "AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… "
	}
	fmt.Fprintf(out, "Cloud Map at %s (%s); try: %saws servicediscovery list-namespaces --region %s --endpoint-url %s\n", r.URL, where, who, f.options.Region, r.URL)
	return g.Wait()
}

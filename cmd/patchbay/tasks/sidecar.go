package tasks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patchbay/cmd/patchbay/cli"
	"patchbay/config"
	"patchbay/declare"
	"patchbay/identity/join"
	"patchbay/internal/count"
	"patchbay/mesh"
	"patchbay/sidecar"
	"patchbay/sidecar/ec2"
	"patchbay/sidecar/ecs"
	"patchbay/sidecar/envoy"
	"patchbay/sidecar/file"
	"patchbay/sidecar/status"
	"patchbay/xds/bootstrap"
)

// DeclarationVar is the environment variable that holds a task's declaration, in
// ECS's words.
const DeclarationVar = "PATCHBAY_SERVICE_CONNECT"

// envoyUID is the user of Envoy's own container image.
const envoyUID = 101

// defaultState is the agent's state directory in a container or on a machine
// with one task.
const defaultState = "/var/lib/patchbay/sidecar"

func newSidecarCmd(version string) *cobra.Command {
	o := newSidecarOptions(version)
	c := &cobra.Command{
		Use:   "sidecar",
		Short: "Run the agent beside an application",
		Long: `Runs in the network namespace of an application: joins the mesh with the
workload's join directory, starts Envoy under a user of its own, keeps the mesh's
names in the hosts file, registers the task's ports while the application and
Envoy are healthy, and on SIGTERM takes the task out of the mesh before it ends.

What the task offers stands in the environment variable ` + DeclarationVar + `: the
serviceConnectConfiguration and portMappings of ECS, as JSON. A task without
services is client-only.

Every flag can be given as an environment variable: --drain-time is
PATCHBAY_DRAIN_TIME. On a machine without containers one file can hold all of
it, the declaration included, with --config (docs/guides/ec2.md); the command
line and the environment come before the file.`,
		Example: `  export ` + DeclarationVar + `='{
    "serviceConnectConfiguration": {"enabled": true, "namespace": "prod",
      "services": [{"portName": "web", "discoveryName": "backend", "clientAliases": [{"port": 8080}]}]},
    "portMappings": [{"name": "web", "containerPort": 8080, "appProtocol": "http"}]}'
  patchbay sidecar --xds patchbay:18000 --agent patchbay:18001 --join /join
  patchbay sidecar --config /etc/patchbay/sidecar.yaml`,
		Args: cobra.NoArgs,
		PreRunE: func(c *cobra.Command, _ []string) error {
			return errors.Join(fromEnv(c.Flags()), o.fromFile(c.Flags()))
		},
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := o.agent(c)
			if err != nil {
				return cli.Exit(cli.Misused, err)
			}
			err = a.Run(c.Context())
			if errors.Is(err, sidecar.ErrNotPossible) {
				return cli.Exit(cli.NotPossible, err)
			}
			return err
		},
	}
	o.flags(c.Flags())
	c.Flags().StringVar(&o.file, "config", "", "a YAML file with flags and declaration, for machines without containers")
	c.AddCommand(newSidecarHealthCmd())
	return c
}

// sidecarOptions are the flags that Config does not hold as they are written.
type sidecarOptions struct {
	cfg       sidecar.Config
	xds       []string
	wiring    string
	profile   string
	net       string
	uid       int
	user      string
	joinFiles string
	emf       bool
	log       config.Log

	declaration string // of --service-connect, or the environment

	file       string // of --config
	fromConfig file.File
	inFile     error // what is wrong with it
}

func newSidecarOptions(version string) *sidecarOptions {
	return &sidecarOptions{cfg: sidecar.Config{Wiring: sidecar.Auto, Version: version}, log: config.Log{Level: "info", Format: "text"}}
}

func (o *sidecarOptions) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&o.xds, "xds", nil, "the control plane's xDS port, HOST:PORT (several replicas: separated by commas)")
	f.StringSliceVar(&o.cfg.Agent, "agent", nil, "the control plane's agent port, HOST:PORT (several replicas: separated by commas, tried in this order)")
	f.StringVar(&o.declaration, "service-connect", "", "the task's declaration, in ECS's words (default: $"+DeclarationVar+")")
	f.StringVar(&o.cfg.Join, "join", "/join", "the workload's join directory, made by 'patchbay token join'")
	f.StringVar(&o.joinFiles, "join-files", "", "instead of --join: the files of a directory without a key, as a JSON object ('patchbay inject ecs' writes it)")
	f.StringVar(&o.cfg.Task, "task", "", "name of this task, unique in its workload (default: on ECS the task's id, on EC2 the instance's where it joins by its role, else the host name)")
	f.StringVar(&o.cfg.State, "state", defaultState, "directory for the node certificate, Envoy's configuration and sockets; one for each task")
	f.StringVar(&o.wiring, "wiring", string(sidecar.Auto), "how connections reach Envoy: redirect (needs NET_ADMIN), bind, or auto")
	f.StringVar(&o.profile, "profile", string(mesh.Live), "live, or strict: what ECS Service Connect does and nothing else, such as names that are those of the task's start")
	f.StringVar(&o.net, "network", "auto", "on ECS the task's network mode: awsvpc, host, bridge (ingress only), or auto: as the task's metadata say")
	f.StringVar(&o.cfg.HostsFile, "hosts-file", "/etc/hosts", "the hosts file that the task's containers read")
	f.StringVar(&o.cfg.Envoy, "envoy", "", "path of Envoy, 1.40.0 or newer (default: PATH, beside this program, or the Python wheel)")
	f.IntVar(&o.uid, "envoy-uid", envoyUID, "user and group id that Envoy runs under, where the agent is root")
	f.StringVar(&o.user, "envoy-user", "", "name of Envoy's user, instead of --envoy-uid")
	f.IntVar(&o.cfg.Concurrency, "concurrency", 2, "Envoy's worker threads; 0 means one for each core")
	f.DurationVar(&o.cfg.DrainTime, "drain-time", 20*time.Second, "how long connections may take to end once every caller knows that the task stops")
	f.DurationVar(&o.cfg.StopTimeout, "stop-timeout", 0, "when after the first SIGTERM the container is killed: the drain ends before (default: on ECS 30s, its own default; elsewhere no limit)")
	f.Var(revisionValue{&o.cfg.Revision}, "revision", "deployment that the task is of, such as green or 7 (default: on ECS the revision of its task definition)")
	f.StringVar(&o.cfg.Zone, "zone", "", "availability zone id, such as use1-az1 (default: on ECS the task's, on EC2 the instance's where it joins by its role)")
	f.StringVar(&o.cfg.Container, "app-container", "", "on ECS: the container whose health check counts (default: the one that maps the port)")
	f.BoolVar(&o.cfg.Intercept, "intercept", false, "send connections from outside to the application's own ports through Envoy, as Service Connect does (redirect wiring)")
	f.BoolVar(&o.cfg.CloseDead, "close-dead", false, "refuse new connections while the application takes none, so that the TCP check of a Network Load Balancer fails (needs NET_ADMIN)")
	f.StringVar(&o.cfg.Metrics, "metrics", "", "where Prometheus may scrape the task's metrics, HOST:PORT such as 127.0.0.1:9464 (default: nowhere)")
	f.BoolVar(&o.emf, "emf", false, "write the task's metrics to standard output once a minute, in CloudWatch's embedded metric format")
	f.BoolVar(&o.cfg.NoTap, "no-tap", false, "don't let operators see requests through this sidecar (patchbay tap)")
	f.StringVar(&o.log.Level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.log.Format, "log-format", "text", "text or json")
}

// fromEnv gives every flag that is not on the command line the value of its
// environment variable; one that is empty, as a compose file writes what has no
// value, is none.
func fromEnv(f *pflag.FlagSet) error {
	var errs []error
	f.VisitAll(func(flag *pflag.Flag) {
		name := Variable(flag.Name)
		if v := os.Getenv(name); v != "" && !flag.Changed {
			if err := f.Set(flag.Name, v); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, cli.Value(err)))
			}
		}
	})
	if len(errs) > 0 {
		return cli.Exit(cli.Misused, errors.Join(errs...))
	}
	return nil
}

// Variable is the environment variable of a flag.
func Variable(flag string) string {
	return "PATCHBAY_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// agent builds the agent, or lists everything that is wrong.
func (o *sidecarOptions) agent(c *cobra.Command) (*sidecar.Agent, error) {
	errs := []error{o.inFile, cli.WrongLog(o.log)}
	cfg := o.cfg
	cfg.Log = cli.Log(o.log, c.ErrOrStderr())
	cfg.AccessLog = os.Stdout
	if o.emf {
		cfg.EMF = cli.Unblocked(os.Stdout)
	}
	cfg.Wiring, cfg.Profile = mesh.Wiring(o.wiring), mesh.Profile(o.profile)
	uid, err := o.envoyUser()
	if err != nil {
		errs = append(errs, err)
	}
	if envoy.MayChangeUser() {
		cfg.UID = uid
	}
	if cfg.State, err = filepath.Abs(cfg.State); err != nil {
		errs = append(errs, fmt.Errorf("state: %w", err))
	}
	if o.net != "auto" {
		cfg.Network = ecs.Mode(o.net)
	}
	if o.joinFiles != "" {
		cfg.Join = cfg.State + "-join"
		errs = append(errs, join.Unpack(o.joinFiles, cfg.Join))
	}
	errs = append(errs, onECS(c.Context(), &cfg), onEC2(c.Context(), &cfg))
	if cfg.Task == "" {
		cfg.Task = hostTask()
	}
	for _, text := range o.xds {
		a, err := bootstrap.ParseHostPort(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("xds: %w", err))
		}
		cfg.XDS = append(cfg.XDS, a)
	}
	for _, text := range cfg.Agent {
		if _, err := bootstrap.ParseHostPort(text); err != nil {
			errs = append(errs, fmt.Errorf("agent: %w", err))
		}
	}
	if cfg.Declaration, err = o.declared(); err != nil {
		errs = append(errs, err)
		cfg.Declaration = declare.Task{Enabled: true} // that it is not is said already
	}
	for _, p := range cfg.Declaration.Ignored {
		cfg.Log.Warn("a part of the declaration has no effect", "path", p.Path, "reason", p.Text)
	}
	cfg.Revision = cmp.Or(o.cfg.Revision, cfg.Declaration.Revision, cfg.Revision)
	a, err := sidecar.New(cfg)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return a, nil
}

// declared is the task's declaration, from the flag, the environment or the
// file.
func (o *sidecarOptions) declared() (declare.Task, error) {
	text, set := o.declaration, o.declaration != ""
	var errs []error
	switch {
	case set && o.fromConfig.Declaration != nil:
		errs = append(errs, fmt.Errorf("%s is set, and %s has a declaration as well; allowed: one of the two", DeclarationVar, o.file))
	case o.fromConfig.Declaration != nil:
		text = string(o.fromConfig.Declaration)
	case !set && o.file != "":
		return declare.Task{}, fmt.Errorf("%s: serviceConnectConfiguration is missing; a machine that only calls others has: serviceConnectConfiguration: {enabled: true}", o.file)
	case !set:
		return declare.Task{}, fmt.Errorf("%s is not set; a task that only calls others has: {\"serviceConnectConfiguration\": {\"enabled\": true}}", DeclarationVar)
	}
	t, err := declare.Parse([]byte(text))
	problems, _ := errors.AsType[declare.Problems](err)
	switch {
	case err != nil && !set:
		errs = append(errs, o.atLines(problems))
	case err != nil:
		errs = append(errs, fmt.Errorf("%s:\n%w", DeclarationVar, err))
	}
	return t, errors.Join(errs...)
}

// onECS takes from the task's metadata what no flag says.
func onECS(ctx context.Context, cfg *sidecar.Config) error {
	endpoint, err := ecs.FromEnv()
	if err != nil || endpoint == nil {
		return err
	}
	t, err := endpoint.Wait(ctx, cfg.Log)
	if err != nil {
		return err
	}
	cfg.Metadata, cfg.ECS = endpoint, t
	cfg.Task, cfg.Zone = cmp.Or(cfg.Task, t.ID), cmp.Or(cfg.Zone, t.ZoneID)
	cfg.Revision = cmp.Or(cfg.Revision, t.Revision)
	cfg.Network = cmp.Or(cfg.Network, t.Mode)
	cfg.StopTimeout = cmp.Or(cfg.StopTimeout, ecs.StopTimeout)
	return nil
}

// onEC2 takes the machine's name from its metadata, and what no flag says, where
// it joins by the role of its instance.
func onEC2(ctx context.Context, cfg *sidecar.Config) error {
	dir, err := join.Load(cfg.Join)
	if err != nil || !dir.ByInstance() {
		return nil //nolint:nilerr // who joins waits for the directory, and says what is wrong with it
	}
	i, err := ec2.Wait(ctx, cfg.Log)
	if err != nil {
		return err
	}
	if cfg.Task != "" && cfg.Task != i.ID {
		return fmt.Errorf("task: %q; allowed: %s, the id of this instance, by whose role it joins: leave it out", cfg.Task, i.ID)
	}
	cfg.Task, cfg.Zone = i.ID, cmp.Or(cfg.Zone, i.ZoneID)
	return nil
}

var notInTask = regexp.MustCompile(`[^0-9a-zA-Z_-]+`)

// hostTask is the host name, in a task's letters.
func hostTask() string {
	name, _ := os.Hostname() // empty is refused later, with what is allowed
	name = notInTask.ReplaceAllString(name, "-")
	return name[:min(len(name), 64)]
}

func newSidecarHealthCmd() *cobra.Command {
	var state string
	var registered, asJSON bool
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask the agent whether the task can use the mesh (for container health checks)",
		Long: `Exits 0 when the task's applications can call the mesh: Envoy is configured and
the names are written. Otherwise it exits 1 and prints what is waited for.

With --registered it asks besides that every port that the task offers is
registered, which needs the application to be up: don't let the application's
own start depend on that. A port whose application goes down stays registered,
as unhealthy: --json shows the health of each.`,
		Example: `  patchbay sidecar health
  patchbay sidecar health --registered --json`,
		Args:    cobra.NoArgs,
		PreRunE: func(c *cobra.Command, _ []string) error { return fromEnv(c.Flags()) },
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := status.Ask(c.Context(), state)
			if err != nil {
				return fmt.Errorf("%w\nthe sidecar of this task has not started, has ended, or uses another state directory: look at its log, or name the directory with --state", err)
			}
			if asJSON {
				if err := json.NewEncoder(c.OutOrStdout()).Encode(s); err != nil {
					return err
				}
			}
			reasons := cli.Aged(s.Reasons, s.Problems)
			if registered {
				reasons = append(reasons, s.Unserved()...)
			}
			if len(reasons) > 0 {
				return errors.New("not ready: " + strings.Join(reasons, "; "))
			}
			if !asJSON {
				fmt.Fprintf(c.OutOrStdout(), "ready: %s, %s\n", s.Node, count.Of(s.Names, "name"))
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&state, "state", defaultState, "the agent's state directory")
	f.BoolVar(&registered, "registered", false, "ask for every offered port to be registered, too")
	f.BoolVar(&asJSON, "json", false, "print the agent's whole status as JSON")
	return c
}

package tasks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"patchbay/cmd/patchbay/cli"
	"patchbay/internal/envoybin"
	"patchbay/sidecar/status"
	"patchbay/tandem"
)

func newTaskCmd(version string) *cobra.Command {
	c := &cobra.Command{
		Use:   "task",
		Short: "Run agent and application in one container (scalable in compose)",
		Long: `Compose can't give each replica of a service its own sidecar container. So a
service with "scalable: true" runs its agent in the application's container:
the programs come from a volume that 'task install' fills, and 'task run' is the
container's entrypoint. 'patchbay inject compose' writes both.`,
		Example: "  patchbay task install --to /patchbay",
	}
	c.AddCommand(newTaskInstallCmd(version), newTaskRunCmd(version))
	return c
}

func newTaskInstallCmd(version string) *cobra.Command {
	var to, envoy string
	c := &cobra.Command{
		Use:     "install",
		Short:   "Put this program and Envoy into a volume, fit for containers of any image",
		Example: "  patchbay task install --to /patchbay",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			b, err := envoybin.Find(c.Context(), envoy)
			if err != nil {
				return cli.Exit(cli.NotPossible, err)
			}
			if err := tandem.Install(to, self, b.Path); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "patchbay %s and Envoy %s are in %s\n", version, b.Version, to)
			return nil
		},
	}
	c.Flags().StringVar(&to, "to", "/patchbay", "the directory, by the path at which the applications' containers mount it")
	c.Flags().StringVar(&envoy, "envoy", "", "path of Envoy (default: as for 'patchbay sidecar')")
	return c
}

func newTaskRunCmd(version string) *cobra.Command {
	o := newSidecarOptions(version)
	app := tandem.App{Env: os.Environ()}
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run the agent and the application in one container",
		Long: `Starts the agent, then the command once the mesh is ready. On SIGTERM the task
leaves the mesh first, then the command gets its SIGTERM. The exit code is the
command's. All flags of 'patchbay sidecar' are understood.

The agent needs root and NET_ADMIN; the command gets neither, unless --user and
--keep-net-admin say so.`,
		Example: `  /patchbay/patchbay task run --xds patchbay:18000 --agent patchbay:18001 \
    --join /patchbay-join --user nginx -- nginx -g 'daemon off;'`,
		Args:    cobra.MinimumNArgs(1),
		PreRunE: func(c *cobra.Command, _ []string) error { return fromEnv(c.Flags()) },
		RunE: func(c *cobra.Command, args []string) error {
			if os.Geteuid() != 0 {
				return cli.Exit(cli.NotPossible, fmt.Errorf("the agent runs as user %d, but needs root for the hosts file: write `user:` of the image into the compose file and run 'patchbay inject compose' again; the application will run as that user", os.Geteuid()))
			}
			if err := o.beside(); err != nil {
				return err
			}
			if _, err := o.agent(c); err != nil { // said once, and not again for each start
				return cli.Exit(cli.Misused, err)
			}
			app.Command, app.Log = args, cli.Log(o.log, c.ErrOrStderr())
			app.Agent = func(ctx context.Context) error {
				a, err := o.agent(c)
				if err != nil {
					return err
				}
				return a.Run(ctx)
			}
			app.Ready = func(ctx context.Context) error { return ready(ctx, o.cfg.State) }
			code, err := app.Run(c.Context())
			if err == nil && code != 0 {
				err = errors.New("the application ended")
			}
			if err != nil {
				return cli.Exit(code, err)
			}
			return nil
		},
	}
	f := c.Flags()
	o.flags(f)
	f.StringVar(&app.User, "user", "", "user[:group] of the command, as in a Dockerfile (default: root)")
	f.BoolVar(&app.KeepNetAdmin, "keep-net-admin", false, "let the command have NET_ADMIN, too")
	return c
}

// beside takes Envoy and its libraries from the directory of this program, as
// 'task install' has put them there.
func (o *sidecarOptions) beside() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	dir := filepath.Dir(self)
	if o.cfg.Envoy != "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, tandem.Library)); err == nil {
		o.cfg.Envoy = filepath.Join(dir, tandem.Envoy)
		return os.Setenv("LD_LIBRARY_PATH", filepath.Join(dir, tandem.Library))
	}
	return nil
}

// ready is nil when the mesh can be used.
func ready(ctx context.Context, state string) error {
	s, err := status.Ask(ctx, state)
	if err != nil {
		return err
	}
	if len(s.Reasons) > 0 {
		return errors.New(strings.Join(s.Reasons, "; "))
	}
	return nil
}

package main

import (
	"github.com/spf13/cobra"

	"patchbay/cmd/patchbay/cli"
	"patchbay/config"
	"patchbay/controlplane"
)

func newServeCmd() *cobra.Command {
	var file, text string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: `Runs the control plane: discovery, certificates, the xDS port for Envoys, the
port for sidecar agents, the admin interface, and the embedded registry if the
configuration has one. It waits for what it needs and says for what on
/readyz. SIGTERM or Ctrl-C stops it; Envoys keep their configuration.

The smallest configuration, with everything on this machine and no TLS:

  namespaces: [demo]
  createNamespaces: true
  registry: {listen: "127.0.0.1:18003"}

docs/reference/config.md has every key. With OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4317
in the environment each change of the mesh is traced (docs/guides/tracing.md).`,
		Example: `  patchbay serve --config patchbay.yaml
  curl http://127.0.0.1:18002/readyz`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			load := func() (config.Config, error) { return config.Load(file) }
			if text != "" {
				load = func() (config.Config, error) { return config.Parse("--config-text", []byte(text)) }
			}
			cfg, err := load()
			if err != nil {
				return cli.Exit(cli.Misused, err)
			}
			return controlplane.Run(c.Context(), controlplane.Options{Config: cfg, Version: version(), Replica: cli.HostName(), Log: cli.Log(cfg.Log, c.ErrOrStderr())})
		},
	}
	c.Flags().StringVar(&file, "config", "patchbay.yaml", "the control plane's configuration")
	c.Flags().StringVar(&text, "config-text", "", "the configuration itself, where there is no file (compose)")
	c.MarkFlagsMutuallyExclusive("config", "config-text")
	c.AddCommand(newServeHealthCmd())
	return c
}

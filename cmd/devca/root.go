package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"patchbay/internal/devca"
)

// usageError is one that exit code 2 is for.
type usageError struct{ error }

func isUsage(err error) bool {
	_, ok := errors.AsType[usageError](err)
	return ok || strings.HasPrefix(err.Error(), "unknown command") || strings.HasPrefix(err.Error(), "required flag")
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "devca",
		Short: "A real step-ca authority for laptops, containers and tests",
		Long: `devca sets up and runs a smallstep authority without asking questions: P-256,
TLS 1.3, one JWK provisioner named "patchbay", no other way in. It keeps its
keys unencrypted in a directory that only its user can read: not for production.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nsee '%s --help'", err, c.CommandPath())}
	})
	root.AddCommand(newInitCmd(), newRunCmd(), newHealthCmd())
	return root
}

func newInitCmd() *cobra.Command {
	var o devca.Options
	c := &cobra.Command{
		Use:   "init --dir DIR",
		Short: "Make the authority if there is none, and print what its clients need",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := devca.Init(c.Context(), o)
			if err != nil {
				return err
			}
			enc := json.NewEncoder(c.OutOrStdout())
			enc.SetIndent("", "  ")
			return enc.Encode(client)
		},
	}
	flags(c, &o)
	return c
}

func newRunCmd() *cobra.Command {
	var o devca.Options
	c := &cobra.Command{
		Use:   "run --dir DIR",
		Short: "Run the authority until SIGTERM; make it first if there is none",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log := newLogger(c.ErrOrStderr())
			return devca.Run(c.Context(), o, log)
		},
	}
	flags(c, &o)
	return c
}

func newHealthCmd() *cobra.Command {
	var dir, url string
	c := &cobra.Command{
		Use:   "health --dir DIR",
		Short: "Exit 0 if the authority is up and proves that it holds the expected root",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := devca.LoadClient(dir)
			if err != nil {
				return err
			}
			if url != "" {
				client.URL = url
			}
			return client.Health(c.Context())
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "directory with the files for clients")
	c.Flags().StringVar(&url, "url", "", "address to ask instead of the one in the url file")
	mustRequire(c, "dir")
	return c
}

func flags(c *cobra.Command, o *devca.Options) {
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "directory of the authority, keys included")
	f.StringVar(&o.Share, "share", "", "directory for the files that clients need (default: --dir)")
	f.StringVar(&o.Name, "name", "", "name of a new authority (default: "+devca.DefaultName+")")
	f.StringSliceVar(&o.Names, "dns", nil, "DNS names and IP addresses by which clients call it, the one of the URL first (default: localhost,127.0.0.1)")
	f.StringVar(&o.Listen, "listen", "", "HOST:PORT; port 0 is any (default: "+devca.DefaultListen+")")
	f.DurationVar(&o.MinLifetime, "min-lifetime", 0, "shortest life of a certificate (default: "+devca.DefaultMinLifetime.String()+")")
	f.DurationVar(&o.MaxLifetime, "max-lifetime", 0, "longest life of a certificate (default: "+devca.DefaultMaxLifetime.String()+")")
	f.BoolVar(&o.Database, "db", false, "remember used tokens and issued certificates in a bbolt file")
	mustRequire(c, "dir")
}

func mustRequire(c *cobra.Command, flag string) {
	if err := c.MarkFlagRequired(flag); err != nil {
		panic(err) // the flag's name is misspelt in this file
	}
}

// newLogger also takes what smallstep's library says through package log.
func newLogger(w io.Writer) *slog.Logger {
	log := slog.New(slog.NewTextHandler(w, nil))
	slog.SetDefault(log)
	return log
}

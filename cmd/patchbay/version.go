package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"patchbay/internal/envoybin"
)

// release is set by the linker (-X main.release=…).
var release = "0.1.0-dev"

func version() string { return release }

func newVersionCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the version, and that of the oldest Envoy that it works with",
		Example: "  patchbay version --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(map[string]string{"version": version(), "go": runtime.Version(), "envoyMinimum": envoybin.Minimum.String()})
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "patchbay %s (%s); Envoy %s or newer\n", version(), runtime.Version(), envoybin.Minimum)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

package main

import "github.com/spf13/cobra"

// newPauseCmd holds the network namespace of a task, so that its other
// containers can come and go.
func newPauseCmd() *cobra.Command {
	return &cobra.Command{
		Use:    "pause",
		Short:  "Do nothing until SIGTERM (the container that owns a task's network)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			<-c.Context().Done()
			return nil
		},
	}
}

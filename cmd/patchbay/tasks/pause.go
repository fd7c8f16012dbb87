package tasks

import "github.com/spf13/cobra"

// newPauseCmd holds the network namespace of a task, so that its other
// containers can come and go.
func newPauseCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "pause",
		Short: "Do nothing until SIGTERM (the container that owns a task's network)",
		Long: `A network namespace goes when the container that owns it restarts, and an Envoy
in it is stranded. So the namespace of a task in compose belongs to a container
that runs only this, and application and sidecar restart without harm.`,
		Example: "  patchbay pause",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			<-c.Context().Done()
			return nil
		},
	}
}

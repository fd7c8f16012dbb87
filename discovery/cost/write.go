package cost

import (
	"fmt"
	"io"
	"text/tabwriter"

	"patchbay/internal/count"
)

// Write prints a bill for people.
func (b Bill) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "OPERATION\tCALLS A MONTH\tDOLLARS\tFOR\n")
	for _, l := range b.Lines {
		fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%s\n", l.Operation, l.Calls, l.Dollars, l.What)
	}
	fmt.Fprintf(t, "all calls\t\t%.2f\t%s, %g changes a minute, %s\n", b.Calls, count.Of(b.Mesh.Services, "service"), b.Mesh.ChangesPerMinute, count.Of(b.Mesh.Replicas, "replica"))
	if b.Mesh.Instances > 0 {
		fmt.Fprintf(t, "registered\t\t%.2f\t%s, whoever asks\n", b.Resources, count.Of(b.Mesh.Instances, "instance"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nPrices of %s. %s.\n", b.Dated, b.Source)
	return err
}

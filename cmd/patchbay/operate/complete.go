package operate

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
)

// completes completes the arguments of a command, each with what the mesh has of
// its kind; what comes after those, and whatever no control plane can say, is not
// completed.
func (o *operator) completes(kinds ...func(*api.Status) []string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(kinds) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		st, _, err := o.status(c.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return kinds[len(args)](st), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlags completes flags whose value depends on the command's first
// argument.
func (o *operator) completeFlags(c *cobra.Command, kind func(st *api.Status, of string) []string, flags ...string) {
	for _, name := range flags {
		err := c.RegisterFlagCompletionFunc(name, func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			st, _, err := o.status(c.Context())
			if err != nil || len(args) == 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return kind(st, args[0]), cobra.ShellCompDirectiveNoFileComp
		})
		if err != nil {
			panic(err) // the command lacks the flag
		}
	}
}

// nodes are the sidecars.
func nodes(st *api.Status) (out []string) {
	for _, s := range st.Sidecars {
		out = append(out, s.Node)
	}
	return out
}

// services are all, the targets outside the mesh among them.
func services(st *api.Status) []string {
	return servicesThat(st, func(api.Service) bool { return true })
}

// own are the services that patchbay may write to.
func own(st *api.Status) []string {
	return servicesThat(st, func(s api.Service) bool { return !s.Foreign })
}

// encrypted are the services of the mesh that have TLS.
func encrypted(st *api.Status) []string {
	return servicesThat(st, func(s api.Service) bool { return s.TLS != nil && len(s.External) == 0 })
}

func servicesThat(st *api.Status, fits func(api.Service) bool) (out []string) {
	for _, s := range st.Services {
		if fits(s) {
			out = append(out, s.Name)
		}
	}
	return out
}

func nodesAndServices(st *api.Status) []string { return append(nodes(st), services(st)...) }

// addresses are what applications call.
func addresses(st *api.Status) (out []string) {
	for _, s := range st.Services {
		scheme := "http"
		if s.Protocol == "tcp" {
			scheme = "tcp"
		}
		for _, a := range s.Aliases {
			if a.LostTo == "" {
				out = append(out, fmt.Sprintf("%s://%s:%d", scheme, a.DNSName, a.Port))
			}
		}
	}
	return out
}

// revisions are those of a service.
func revisions(st *api.Status, service string) []string {
	for _, s := range st.Services {
		if s.Name == service {
			return slices.Sorted(maps.Keys(s.Revisions))
		}
	}
	return nil
}

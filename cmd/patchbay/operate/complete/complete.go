// Package complete is what the shell offers for names of the mesh: what a running
// control plane has of each kind.
//
// It owns the kinds. It must not know how a control plane is asked. Start reading
// at [Args].
package complete

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
)

// Status asks the control plane that is meant by a command's flags.
type Status = func(context.Context) (*api.Status, error)

// Args completes the arguments of a command, each with what the mesh has of its
// kind; what comes after those, and whatever no control plane can say, is not
// completed.
func Args(ask Status, kinds ...func(*api.Status) []string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(kinds) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		st, err := ask(c.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return kinds[len(args)](st), cobra.ShellCompDirectiveNoFileComp
	}
}

// Flags completes flags whose value depends on the command's first argument.
func Flags(c *cobra.Command, ask Status, kind func(st *api.Status, of string) []string, flags ...string) {
	for _, name := range flags {
		err := c.RegisterFlagCompletionFunc(name, func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			st, err := ask(c.Context())
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

// Nodes are the sidecars.
func Nodes(st *api.Status) (out []string) {
	for _, s := range st.Sidecars {
		out = append(out, s.Node)
	}
	return out
}

// Services are all, the targets outside the mesh among them.
func Services(st *api.Status) []string {
	return servicesThat(st, func(api.Service) bool { return true })
}

// Own are the services that patchbay may write to.
func Own(st *api.Status) []string {
	return servicesThat(st, func(s api.Service) bool { return !s.Foreign })
}

// Encrypted are the services of the mesh that have TLS.
func Encrypted(st *api.Status) []string {
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

// NodesAndServices are both.
func NodesAndServices(st *api.Status) []string { return append(Nodes(st), Services(st)...) }

// Addresses are what applications call.
func Addresses(st *api.Status) (out []string) {
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

// Revisions are those of a service.
func Revisions(st *api.Status, service string) []string {
	for _, s := range st.Services {
		if s.Name == service {
			return slices.Sorted(maps.Keys(s.Revisions))
		}
	}
	return nil
}

// Package tasks has the commands of tasks: those that put a sidecar into a
// definition, and those that run in the task itself. Each has a file, with its
// flags, its help and a call.
//
// It must not know what a sidecar does, nor what a definition says: that is
// package sidecar's, and inject's. Start reading at [Commands].
package tasks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"patchbay/cmd/patchbay/cli"
	"patchbay/inject"
)

// Commands are those that tasks need. Version is the program's.
func Commands(version string) []*cobra.Command {
	return []*cobra.Command{newSidecarCmd(version), newInjectCmd(), newUninjectCmd(), newImportCmd(), newTaskCmd(version), newPauseCmd()}
}

func newInjectCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "inject",
		Short: "Add sidecars to a definition of tasks, reversibly",
		Long: `Takes a definition of tasks as it is, and gives back the same with a sidecar for
each task that asks for one. Nothing is edited by hand, and all of it can be
taken away again.`,
		Example: "  patchbay inject compose docker-compose.yml -o docker-compose.yml",
	}
	c.AddCommand(newInjectComposeCmd(), newInjectECSCmd())
	return c
}

// composeNames is where Compose looks, in its order.
var composeNames = []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"}

func newInjectComposeCmd() *cobra.Command {
	var out string
	var remove, check bool
	c := &cobra.Command{
		Use:   "compose [FILE]",
		Short: "Add sidecars to a compose file",
		Long: `Reads a compose file and writes the same with a sidecar for each service that
carries x-service-connect (serviceConnectConfiguration of ECS, with its
portMappings), and once the control plane with its CA. Comments and order stay.

The result goes to standard output, or to the file of -o; FILE itself may be
that file. An injected file can be injected again after a change, and --remove
gives back what was there before, byte for byte. Without FILE it is the file
that Compose would take; - is standard input.

Everything that is wrong is said at once, with its line; exit code 4 then. With
--check nothing is written: exit code 4 says that the file of -o (or FILE) is
not what would be written.`,
		Example: `  patchbay inject compose -o compose.mesh.yml
  patchbay inject compose docker-compose.yml -o docker-compose.yml
  patchbay inject compose docker-compose.yml -o docker-compose.yml --remove`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			name, text, err := composeFile(c.InOrStdin(), args)
			if err != nil {
				return err
			}
			do := inject.Compose
			if remove {
				do = inject.Remove
			}
			made, err := do(name, text)
			if err != nil {
				return cli.Exit(cli.Problems, fmt.Errorf("nothing was written:\n%w", err))
			}
			switch {
			case check:
				return current(name, text, out, made)
			case out == "":
				_, err := c.OutOrStdout().Write(made)
				return err
			}
			return replace(out, made)
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "file to write (default: standard output)")
	c.Flags().BoolVar(&remove, "remove", false, "take away what was added")
	c.Flags().BoolVar(&check, "check", false, "write nothing; exit 4 if the file is not current")
	return c
}

// composeFile reads the file that is named, or the one that Compose would take.
func composeFile(stdin io.Reader, args []string) (name string, text []byte, err error) {
	if len(args) == 1 && args[0] == "-" {
		text, err = io.ReadAll(stdin)
		return "standard input", text, err
	}
	names := composeNames
	if len(args) == 1 {
		names = args
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err == nil || !errors.Is(err, os.ErrNotExist) || len(args) == 1 {
			return name, text, err
		}
	}
	return "", nil, cli.Exit(cli.Misused, fmt.Errorf("there is no compose file here: name it, or change to a directory with one of %v", composeNames))
}

// current compares the file that would be written with what would be written.
func current(name string, text []byte, out string, made []byte) error {
	if out != "" {
		var err error
		if text, err = os.ReadFile(out); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	} else {
		out = name
	}
	if !bytes.Equal(text, made) {
		return cli.Exit(cli.Problems, fmt.Errorf("%s is not current: run this command without --check, with -o %s", out, out))
	}
	return nil
}

// replace writes a file in one step, and not at all if it is the same. It
// keeps the mode, and writes through a symbolic link.
func replace(name string, text []byte) error {
	mode := os.FileMode(0o644)
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	if old, err := os.ReadFile(name); err == nil {
		if bytes.Equal(old, text) {
			return nil
		}
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		mode = info.Mode().Perm()
	} else if errors.Is(err, syscall.EISDIR) {
		return fmt.Errorf("write: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".patchbay-*")
	if bad, ok := errors.AsType[*fs.PathError](err); ok {
		bad.Path = name // not that of tmp
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	defer os.Remove(tmp.Name()) // gone once it is renamed
	_, err = tmp.Write(text)
	if err := errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return os.Rename(tmp.Name(), name)
}

package tasks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"patchbay/appmesh"
	"patchbay/appmesh/model"
	"patchbay/cmd/patchbay/cli"
)

func newImportCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "import",
		Short:   "Make declarations of another mesh's configuration",
		Long:    "Reads the configuration of another mesh, and writes declarations for tasks of this one.",
		Example: "  patchbay import appmesh exported -o mesh",
	}
	c.AddCommand(newImportAppMeshCmd())
	return c
}

func newImportAppMeshCmd() *cobra.Command {
	var out string
	var o appmesh.Options
	var strict bool
	c := &cobra.Command{
		Use:   "appmesh DIR|FILE...",
		Short: "Make declarations of an AWS App Mesh",
		Long: `Reads what 'aws appmesh describe-mesh', describe-virtual-node,
describe-virtual-service, describe-virtual-router, describe-route,
describe-virtual-gateway and describe-gateway-route print (JSON; several in one
file are fine; of a directory every *.json), and prints what the mesh amounts to:

  lost     had an effect that nothing here has
  differs  has a counterpart that is not the same
  hint     is to be done, or to be known

each with the resource, the JSON path, and what to do. With -o it writes the
declaration of each virtual node and gateway to NAME.json, as a sidecar takes it in
PATCHBAY_SERVICE_CONNECT, and the report to report.json.

Exit code 4 if a file can't be read, and, with --strict, if anything is lost.`,
		Example: `  patchbay import appmesh exported
  patchbay import appmesh exported -o mesh
  patchbay diff -f mesh/backend.json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			files, err := meshFiles(c.InOrStdin(), args)
			if err != nil {
				return cli.Exit(cli.Misused, err)
			}
			if slices.ContainsFunc(args, func(a string) bool { return filepath.Clean(a) == filepath.Clean(out) && out != "" }) {
				return cli.Exit(cli.Misused, fmt.Errorf("%s holds what is read; write elsewhere", out))
			}
			r, err := appmesh.Import(o, files...)
			if err != nil {
				return cli.Exit(cli.Problems, fmt.Errorf("nothing was written:\n%w", err))
			}
			if out != "" {
				if err := writeImport(out, r); err != nil {
					return err
				}
			}
			showImport(c.OutOrStdout(), r)
			if n := r.Count(appmesh.Lost); strict && n > 0 {
				return cli.Exit(cli.Problems, fmt.Errorf("%d lost, with --strict", n))
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVarP(&out, "output", "o", "", "directory for NAME.json and report.json (default: only the report is printed)")
	f.StringVar(&o.Namespace, "namespace", "", "namespace of the declarations (default: the Cloud Map namespace of the virtual nodes, else the mesh's name)")
	f.BoolVar(&strict, "strict", false, "exit 4 if anything is lost")
	return c
}

// meshFiles reads files, "-", and every *.json of directories and below.
func meshFiles(stdin io.Reader, args []string) (files []model.File, err error) {
	add := func(name string) error {
		text, err := os.ReadFile(name)
		files = append(files, model.File{Name: name, Text: text})
		return err
	}
	for _, a := range args {
		if a == "-" {
			text, err := io.ReadAll(stdin)
			if err != nil {
				return nil, err
			}
			files = append(files, model.File{Name: "standard input", Text: text})
			continue
		}
		info, err := os.Stat(a)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			if err := add(a); err != nil {
				return nil, err
			}
			continue
		}
		before := len(files)
		if err := filepath.WalkDir(a, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".json") {
				return err
			}
			return add(path)
		}); err != nil {
			return nil, err
		}
		if len(files) == before {
			return nil, errors.New(a + " has no *.json")
		}
	}
	return files, nil
}

func writeImport(dir string, r *appmesh.Result) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range r.Declarations {
		if err := replace(filepath.Join(dir, d.Name+".json"), d.Text); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, "report.json"), append(text, '\n'))
}

func showImport(w io.Writer, r *appmesh.Result) {
	fmt.Fprintf(w, "mesh %s: %d declarations in the namespace %s; %d lost, %d differ, %d hints\n", r.Mesh, len(r.Declarations), r.Namespace,
		r.Count(appmesh.Lost), r.Count(appmesh.Differs), r.Count(appmesh.Hint))
	for _, kind := range []string{appmesh.Lost, appmesh.Differs, appmesh.Hint} {
		for _, n := range r.Notes {
			if n.Kind == kind {
				fmt.Fprintln(w, n)
			}
		}
	}
}

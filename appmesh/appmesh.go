// Package appmesh turns the configuration of an AWS App Mesh into declarations
// of tasks: for whoever had one when it ended.
//
// It owns what each part of App Mesh's model amounts to here, and says of everything that has no counterpart what it meant and what to do. It
// is pure, and must not know AWS's API, files or the network.
//
// Start reading at [Import].
package appmesh

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"patchbay/appmesh/model"
	"patchbay/declare"
)

// Options of an import.
type Options struct {
	// Namespace of the declarations. Empty: the Cloud Map namespace of the
	// virtual nodes, else the mesh's name.
	Namespace string
}

// Result is what a mesh amounts to.
type Result struct {
	Mesh         string        `json:"mesh"`
	Namespace    string        `json:"namespace"`
	Declarations []Declaration `json:"declarations"` // sorted by name
	Notes        []Note        `json:"report"`       // sorted by resource and path
}

// Declaration is the declaration of the tasks of one virtual node or gateway:
// JSON that [declare.Parse] accepts.
type Declaration struct {
	Name string          `json:"name"` // the workload
	Of   string          `json:"of"`   // the resource: virtualNode/NAME
	Text json.RawMessage `json:"declaration"`
}

// What a [Note] is about.
const (
	Lost    = "lost"    // it had an effect that nothing here has
	Differs = "differs" // there is a counterpart that is not the same
	Hint    = "hint"    // nothing is lost, but something is to be done or known
)

// Note says of one member of a resource that it is not simply taken over.
type Note struct {
	Kind     string `json:"kind"`
	Resource string `json:"resource"` // kind/NAME, in the words of App Mesh's API
	Path     string `json:"path"`     // from the resource's own root: spec.listeners[0].tls.mode
	Means    string `json:"means"`
	Do       string `json:"do,omitempty"`
}

func (n Note) String() string {
	s := fmt.Sprintf("%s: %s %s: %s", n.Kind, n.Resource, n.Path, n.Means)
	if n.Do != "" {
		s += "; " + n.Do
	}
	return s
}

// Import reads the files of one mesh. Every declaration of the result is
// accepted by [declare.Parse]. The error lists everything that can't be read;
// what can be read but not taken over is in the result's notes.
func Import(o Options, files ...model.File) (*Result, error) {
	m, errs := model.Read(files)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	c := newConverter(m, o)
	c.convert()
	r := &Result{Mesh: m.Name, Namespace: c.namespace, Declarations: []Declaration{}}
	for _, d := range c.out {
		if _, err := declare.Parse(d.Text); err != nil {
			for line := range strings.Lines(err.Error()) {
				c.note(Lost, d.Of, "spec", "its declaration is not written: "+strings.TrimSpace(line), "correct it there and import it again")
			}
			continue
		}
		r.Declarations = append(r.Declarations, d)
	}
	slices.SortFunc(r.Declarations, func(a, b Declaration) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(c.notes, func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Path, b.Path))
	})
	r.Notes = slices.Compact(c.notes)
	if r.Notes == nil {
		r.Notes = []Note{}
	}
	return r, nil
}

// Count is how many notes are of a kind.
func (r *Result) Count(kind string) (n int) {
	for _, x := range r.Notes {
		if x.Kind == kind {
			n++
		}
	}
	return n
}

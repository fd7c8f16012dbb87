package shift

import (
	"testing"

	"patchbay/mesh"
)

// What is said of a share that another revision has is said of one that there
// was: a revision that was called off, or had given everything away, may go.
func TestWhoseShareIsSpared(t *testing.T) {
	for _, c := range []struct {
		name, ended string
		weight      uint32
		there       string // the revision that has an endpoint
		want        string
	}{
		{"the new one is gone", "", 500, "blue", "green has no endpoint that can be called, and blue has its share"},
		{"the old one is gone", "", 500, "green", "blue has no endpoint that can be called, and green has its share"},
		{"only tested, and gone", "", 0, "blue", ""},
		{"called off, and gone", "aborted", 500, "blue", ""},
		{"the old one has gone at the end", "", mesh.Whole, "green", ""},
	} {
		v := &mesh.Service{Endpoints: []mesh.Endpoint{{Revision: c.there}}}
		v.Deployment = mesh.Deploy(mesh.Shift{From: "blue", To: "green", Weights: []uint32{c.weight}, Ended: c.ended}, []mesh.Birth{{Revision: c.there}})
		if got := Divided(v).Spared; got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

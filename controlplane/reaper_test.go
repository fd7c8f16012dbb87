package controlplane

import (
	"log/slog"
	"testing"
	"time"

	"patchbay/config"
	"patchbay/identity/taskrole"
)

// TestReaperRunsWhereNothingExpires: on Cloud Map, if somebody can say what has
// ended.
func TestReaperRunsWhereNothingExpires(t *testing.T) {
	tasks := taskrole.Roles{taskrole.Tasks(nil, nil, nil)}
	for name, c := range map[string]struct {
		control control
		want    bool
	}{
		"our own registry":  {control{cfg: config.Config{Registry: &config.Registry{}}, roles: tasks}, false},
		"one elsewhere":     {control{cfg: config.Config{CloudMap: &config.CloudMap{Lease: time.Minute}}, roles: tasks}, false},
		"join keys alone":   {control{cfg: config.Config{CloudMap: &config.CloudMap{}}}, false},
		"roles":             {control{cfg: config.Config{CloudMap: &config.CloudMap{}}, roles: tasks}, true},
		"alone":             {control{cfg: config.Config{CloudMap: &config.CloudMap{OnlyControlPlane: true}}}, true},
		"alone, with roles": {control{cfg: config.Config{CloudMap: &config.CloudMap{OnlyControlPlane: true}}, roles: tasks}, true},
	} {
		c.control.log = slog.New(slog.DiscardHandler)
		if got := c.control.reaper() != nil; got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

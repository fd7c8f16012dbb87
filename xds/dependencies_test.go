package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
)

// TestDependenciesAreAllThatIsTold: of a namespace a sidecar hears what its
// task declared, when it comes later too; what it did not declare costs it
// nothing.
func TestDependenciesAreAllThatIsTold(t *testing.T) {
	c := startControl(t, 0)
	api, db := freeAlias(t, "api"), freeAlias(t, "db")
	others := func(n int) (all []*mesh.Service) {
		for i := range n {
			all = append(all, service(fmt.Sprintf("other-%02d", i), byte(i+1), "127.0.0.1:1"))
		}
		return all
	}
	first := append(others(40), aliased("api", api, time.Minute, backend(t, "api")))
	c.store.SetServices("prod", first)
	c.dependencies = []string{"db", "api"}
	e := c.task(t, "prod/web/1", "")
	eventually(t, says(api, "api"))
	told := func(want ...string) error {
		got := slices.DeleteFunc(slices.Sorted(maps.Keys(e.Clusters(t))), func(name string) bool { return !strings.HasSuffix(name, ".prod") })
		if !slices.Equal(got, want) {
			return fmt.Errorf("Envoy has the clusters %q, not %q", got, want)
		}
		if n := len(e.Listeners(t)); n != len(want) {
			return fmt.Errorf("Envoy has %d listeners", n)
		}
		return nil
	}
	if err := told("api.prod"); err != nil {
		t.Error(err)
	}
	heard := e.Stats(t)["cluster_manager.cds.update_success"]
	c.store.SetServices("prod", append(others(60), aliased("api", api, time.Minute, backend(t, "api, moved"))))
	eventually(t, says(api, "api, moved"))
	if now := e.Stats(t)["cluster_manager.cds.update_success"]; now != heard {
		t.Errorf("twenty services that it does not call cost the sidecar %v updates of clusters", now-heard)
	}
	c.store.SetServices("prod", append(others(60),
		aliased("api", api, time.Minute, backend(t, "api")), aliased("db", db, time.Minute, backend(t, "db"))))
	envoytest.Eventually(t, 10*time.Second, says(db, "db"))
	eventually(t, func() error { return told("api.prod", "db.prod") })
}

package xds

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// What a strict task sees of the mesh is what it was at its start, but for
// endpoints and Service Connect's own settings.
func TestAStrictTaskHasTheNamesOfItsStart(t *testing.T) {
	c := startControl(t, 0)
	var calls [2]func() int64
	var ports [2]bootstrap.Port
	for i := range ports {
		app, n := counting(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/busy" {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			fmt.Fprint(w, i)
		})
		calls[i] = n.Load
		ports[i] = offer(t, "api", mesh.HTTP, app, "")
		ports[i].PortName = fmt.Sprintf("api-%d", i)
	}
	later := offer(t, "later", mesh.HTTP, backend(t, "later").Port(), "")
	api, added := freeAlias(t, "api.prod"), freeAlias(t, "later.prod")
	s := offered(mesh.HTTP, api, ports[0])
	s.Policy = wants(t, `{"retries": {"max": 0}}`)
	c.store.SetServices("prod", []*mesh.Service{s})
	c.task(t, "prod/backend/1", "", ports[0], ports[1], later)
	own := mesh.NumberVIPs([]string{"api.prod"})
	c.names = own
	task := c.task(t, "prod/web/1", "")
	mine := func(a mesh.Alias) mesh.Alias { a.VIP = own["api.prod"]; return a }
	if own["api.prod"] != netip.MustParseAddr("127.255.0.1") {
		t.Fatal(own)
	}
	if code, body := send(t, http.MethodGet, mine(api), "/"); code != http.StatusOK || body != "0" {
		t.Fatalf("%d %q", code, body)
	}

	// The service's word on retries is none of Service Connect's.
	before := calls[0]()
	send(t, http.MethodGet, mine(api), "/busy")
	if n := calls[0]() - before; n != 3 {
		t.Errorf("a 503 was asked for %d times, want 3", n)
	}

	// A service that comes later is not there for it, whatever is called.
	next := offered(mesh.HTTP, api, ports[1])
	c.store.SetServices("prod", []*mesh.Service{next, offered(mesh.HTTP, added, later)})
	eventually(t, func() error {
		if code, body := send(t, http.MethodGet, mine(api), "/"); code != http.StatusOK || body != "1" {
			return fmt.Errorf("the endpoints are the old ones: %d %q", code, body)
		}
		return nil
	})
	c.settled(t)
	if dump := task.ConfigDump(t); strings.Contains(dump, "later.prod") {
		t.Error("it is told of a service that came later")
	}
	if got, err := get(oneCall, mesh.Alias{VIP: netip.MustParseAddr("127.255.0.2"), Port: added.Port}); err == nil {
		t.Errorf("the next address answers %q", got)
	}

	// One that starts now has both, and shares what is the same.
	c.names = mesh.NumberVIPs([]string{"api.prod", "later.prod"})
	task.Stop()
	c.task(t, "prod/web/2", "")
	if got, err := get(oneCall, mesh.Alias{VIP: c.names["later.prod"], Port: added.Port}); err != nil || got != "later" {
		t.Errorf("%q, %v", got, err)
	}
}

// Package compare holds what an Envoy has, by its own dump, against what it
// should have.
//
// It owns which parts of the two count: contents as they were sent, and of
// endpoints what Envoy has made of them. It must not know streams or agents.
// Start reading at [Envoy].
package compare

import (
	"cmp"
	"fmt"
	"slices"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/wI2L/jsondiff"
	"google.golang.org/protobuf/proto"

	"patchbay/admin/api"
	"patchbay/xds/content"
	"patchbay/xds/delta/wire"
)

// Envoy compares an Envoy's /config_dump?include_eds, with its /clusters in JSON,
// with the entries that it should have. Both sides are redacted: a private key
// that differs shows in its certificate and its version. Envoy's own verdict
// about a host is no difference.
func Envoy(wanted []*wire.Entry, text, clusters []byte) (compared map[string]int, different []api.ResourceDifference, err error) {
	d, err := read(text)
	if err != nil {
		return nil, nil, err
	}
	if err := d.told(clusters); err != nil {
		return nil, nil, err
	}
	compared, different = map[string]int{}, []api.ResourceDifference{}
	members, err := members(wanted)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range wanted {
		if e.Kind() == wire.Members {
			continue // they are compared as their cluster's hosts
		}
		compared[e.Kind().String()]++
		one := api.ResourceDifference{Type: e.Kind().String(), Name: e.Name(), Wanted: e.Version()}
		h, there := d[e.Ref()]
		delete(d, e.Ref())
		one.Has, one.State, one.Error = h.version, h.state, h.err
		if !there || h.message == nil {
			one.Kind = api.Lacking
			different = append(different, one)
			continue
		}
		m, err := content.Of(e)
		if err != nil {
			return nil, nil, err
		}
		if one.Changes, err = changes(h.message, m, members); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", e.Ref(), err)
		}
		// Endpoints have no version in Envoy's books that could be compared.
		other := e.Kind() != wire.Endpoints && h.version != "" && h.version != e.Version()
		if len(one.Changes) > 0 || other || h.state != "" || h.err != "" {
			one.Kind = api.Differing
			different = append(different, one)
		}
	}
	for ref, h := range d {
		if ref.TypeURL == wire.EndpointType && slices.ContainsFunc(wanted, func(e *wire.Entry) bool { return e.Kind() == wire.Clusters && e.Name() == ref.Name }) {
			continue // of a cluster that brings its own: they were compared with it
		}
		if k, ok := wire.KindOf(ref.TypeURL); ok && ours(ref) {
			different = append(different, api.ResourceDifference{Type: k.String(), Name: ref.Name, Kind: api.Unwanted, Has: h.version, State: h.state, Error: h.err})
		}
	}
	slices.SortStableFunc(different, func(a, b api.ResourceDifference) int {
		return cmp.Or(cmp.Compare(order[a.Type], order[b.Type]), cmp.Compare(a.Name, b.Name))
	})
	return compared, different, nil
}

// order is that of sending.
var order = func() map[string]int {
	out := map[string]int{}
	for k := range wire.Kinds {
		out[k.String()] = int(k)
	}
	return out
}()

// members are the endpoints of collections, by collection.
func members(wanted []*wire.Entry) (map[string][]*endpointv3.LbEndpoint, error) {
	out := map[string][]*endpointv3.LbEndpoint{}
	for _, e := range wanted {
		if e.Kind() != wire.Members {
			continue
		}
		m, err := content.Of(e)
		if err != nil {
			return nil, err
		}
		if lb, ok := m.(*endpointv3.LbEndpoint); ok {
			out[wire.Collection(e.Name())] = append(out[wire.Collection(e.Name())], lb)
		}
	}
	return out, nil
}

// changes turn one message into the other. Both are redacted.
func changes(from, to proto.Message, members map[string][]*endpointv3.LbEndpoint) ([]api.Change, error) {
	a, okA := from.(*endpointv3.ClusterLoadAssignment)
	b, okB := to.(*endpointv3.ClusterLoadAssignment)
	if okA && okB {
		return Values(hostsOf(a, nil), hostsOf(b, members))
	}
	if proto.Equal(from, to) {
		return nil, nil
	}
	old, err := content.JSON(from)
	if err != nil {
		return nil, err
	}
	now, err := content.JSON(to)
	if err != nil {
		return nil, err
	}
	return Values(old, now)
}

// Values are the changes that turn one value into another, as JSON.
func Values(from, to any) ([]api.Change, error) {
	patch, err := jsondiff.Compare(from, to, jsondiff.Invertible(), jsondiff.LCS())
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	var out []api.Change
	var old any
	for _, op := range patch {
		if op.Type == jsondiff.OperationTest { // says what was there before the next
			old = op.Value
			continue
		}
		out = append(out, api.Change{Op: op.Type, Path: op.Path, Old: old, New: op.Value})
		old = nil
	}
	return out, nil
}

// Package views is what many sidecars share: two with equal views get the same
// bytes.
//
// It owns what tells views apart, and what of the mesh each knows: names, aliases
// and what holds for calls. It must not know Envoy's resources, nor who sees a
// view. Start reading at [View].
package views

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// View is what sidecars share: two with equal views get the same bytes. It is
// comparable and may key a map.
type View struct {
	Namespace string
	Wiring    mesh.Wiring
	// Blocked lists the ports on which no egress listener may be bound,
	// because a container of the task uses them: numbers, sorted, with commas
	// between. Only in bind wiring.
	Blocked string
	// Dependencies are what the sidecars are told of.
	Dependencies mesh.Dependencies
	// Hidden are targets outside the mesh that they are not told of.
	Hidden mesh.Hidden
	// AccessLog is what the task wants to be logged.
	AccessLog bootstrap.AccessLog
	// Tap says that their agents can show requests.
	Tap bool
	// Collections says that the sidecars take endpoints in collections (LEDS).
	// Nothing here depends on it; it keeps apart what such sidecars share.
	Collections bool
	// Proxyless says that they are no sidecars but gRPC clients.
	Proxyless bool
	// Exclusive says that they share a network namespace with others' Envoys:
	// a port that is taken is then refused instead of shared.
	Exclusive bool
	// AWS says that they are in the form of AWS's agent: each has the listener
	// for redirected connections on a port of its own.
	AWS bool
	// Local is the discovery name whose endpoints such sidecars have as
	// "local_cluster" too; empty: they offer nothing.
	Local string
	// Region is where such sidecars say that they are; their endpoints are said
	// to be there too.
	Region string
	// Strict says that they see of the mesh what Service Connect would show:
	// the names that were there when their tasks started, and no policy.
	Strict bool
	// Names are those, a line for each with its virtual IP behind it; with Strict only.
	Names string
	// Late tells sidecars apart that came before they could be given a
	// certificate that services ask for: see package xds. Nothing here depends
	// on it.
	Late int
	// Policies is the sidecars' own word on services that they call: JSON of
	// [bootstrap.NodeMeta.Policies]; empty: none.
	Policies string
	// Tracing is where they send spans: one service, since a listener names it.
	Tracing Tracing
}

// Of is the view of a node.
func Of(namespace string, meta bootstrap.NodeMeta) View {
	v := View{Namespace: namespace, Wiring: meta.Wiring, Exclusive: meta.Exclusive, AccessLog: meta.AccessLog, Tap: meta.Tap, Dependencies: mesh.DependenciesOf(meta.Dependencies)}
	if v.Wiring == mesh.Bind {
		v.Blocked = list(meta.ContainerPorts)
	}
	if len(meta.Policies) > 0 {
		if b, err := json.Marshal(meta.Policies); err == nil {
			v.Policies = string(b)
		}
	}
	if v.Strict = meta.Profile == mesh.Strict; v.Strict {
		v.Names = frozen(meta.Names)
	}
	if v.AWS = meta.AWS != nil; v.AWS && len(meta.Ports) > 0 {
		v.Local = meta.Ports[0].DiscoveryName
	}
	return v
}

// Blocks reports whether a container of the task uses the port.
func (v View) Blocks(port uint16) bool {
	return v.Blocked != "" && slices.Contains(strings.Split(v.Blocked, ","), strconv.Itoa(int(port)))
}

// list is the canonical form of a list of ports.
func list(ports []uint16) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(ports)))
	text := make([]string, len(sorted))
	for i, p := range sorted {
		text[i] = strconv.Itoa(int(p))
	}
	return strings.Join(text, ",")
}

// Key tells every view from every other; people read it in the status.
func (v View) Key() string {
	key := v.Namespace + "/" + string(v.Wiring) + "/" + v.Blocked
	if v.Dependencies != "" {
		key += "/only=" + string(v.Dependencies)
	}
	if v.Hidden != "" {
		key += "/without=" + string(v.Hidden)
	}
	if v.AccessLog != (bootstrap.AccessLog{}) {
		key += fmt.Sprintf("/log=%s,query=%t", v.AccessLog.Format, v.AccessLog.QueryParameters)
	}
	if v.Tap {
		key += "/tap"
	}
	if v.Collections {
		key += "/leds"
	}
	if v.Proxyless {
		key += "/grpc"
	}
	if v.Exclusive {
		key += "/exclusive"
	}
	if v.AWS {
		key += "/aws"
	}
	if v.Local != "" {
		key += "/local=" + v.Local
	}
	if v.Region != "" {
		key += "/region=" + v.Region
	}
	if v.Strict {
		sum := sha256.Sum256([]byte(v.Names))
		key += "/strict=" + hex.EncodeToString(sum[:4])
	} else if v.Names != "" {
		key += "/names"
	}
	if v.Late > 0 {
		key += fmt.Sprintf("/late=%d", v.Late)
	}
	if v.Policies != "" {
		sum := sha256.Sum256([]byte(v.Policies))
		key += "/policies=" + hex.EncodeToString(sum[:4])
	}
	if v.Tracing != (Tracing{}) {
		key += fmt.Sprintf("/tracing=%s,%g", v.Tracing.Service, v.Tracing.Percent)
	}
	return key
}

// Tracing is where the Envoys of a view send spans of requests. The zero value
// is off: then nothing is added to listeners, and headers such as traceparent
// pass as they are.
type Tracing struct {
	Collector mesh.HostPort
	HTTP      bool    // OTLP over HTTP; else over gRPC
	Percent   float64 // of the requests that come without a decision
	Service   string  // service.name of the spans
}

// On reports whether spans are sent.
func (t Tracing) On() bool { return t.Collector.Port != 0 }

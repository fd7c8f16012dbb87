// Package leds decides which endpoints travel in collections of their own
// (LEDS) instead of in their cluster's assignment, and what the collections
// are called.
//
// It owns the rules under which Envoy's LEDS never shows a wrong host (measured
// on Envoy 1.40.0): one collection for each cluster and locality; a name that
// is new whenever what a client has under the old one can't be known. It must
// not know streams or the mesh. Start reading at [Splitter.Split].
package leds

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Mode is the setting `leds`.
type Mode string

// The modes. Auto uses collections where a locality is large.
const (
	Off  Mode = "off"
	Auto Mode = "auto"
	On   Mode = "on"
)

// Valid reports whether m is one of the modes.
func (m Mode) Valid() bool { return m == Off || m == Auto || m == On }

const (
	// In auto, a locality goes to a collection from autoFrom endpoints on, and
	// back below autoUntil: a change then saves 15 kB on the wire for each
	// sidecar, and a first load costs five times as much.
	autoFrom, autoUntil = 500, 250
	// most is how many members a collection may have: it travels in one
	// response, with 160 bytes for each, and clients accept 4 MiB.
	most = 10_000
	// graves is how many members may leave a collection before it gets a new
	// name: a returning client must be told of each. A larger collection may
	// lose as many as it has, so that the cost of renaming stays small.
	graves = 64

	authority = "xdstp://p/envoy.config.endpoint.v3.LbEndpoint/"
)

// Splitter keeps the collections of one view. It is not safe for concurrent
// use.
type Splitter struct {
	mode     Mode
	process  string // no other process makes the same names
	epochs   uint64
	clusters map[string]*cluster
}

type cluster struct {
	version    string // of the cluster's own resource
	localities map[string]*collection
}

// collection is a locality's, in its present epoch.
type collection struct {
	name    string // ends in "/*"
	members map[string]bool
	left    int // members that have left
}

// New returns a splitter without collections.
func New(mode Mode) *Splitter {
	return &Splitter{mode: mode, process: strings.ToLower(rand.Text()[:6]), clusters: map[string]*cluster{}}
}

// Member is an endpoint in a collection.
type Member struct {
	Name     string
	Endpoint *endpointv3.LbEndpoint
}

// Split is an assignment and the collections that it refers to.
type Split struct {
	Assignment  *endpointv3.ClusterLoadAssignment
	Collections []string // names that end in "/*"
	Members     []Member // all that the collections have
	// Gone are members that have left, and collections that are replaced:
	// clients keep the hosts of those until the new ones have come.
	Gone []string
}

// Split takes a cluster's assignment apart. version is that of the cluster's
// own resource: an updated cluster does not ask for its collections again, so
// they get new names. The assignment given is not changed.
func (s *Splitter) Split(a *endpointv3.ClusterLoadAssignment, version string) Split {
	name := a.GetClusterName()
	c := s.clusters[name]
	if c == nil {
		c = &cluster{localities: map[string]*collection{}}
		s.clusters[name] = c
	}
	updated := c.version != version
	c.version = version
	out := Split{Assignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Policy: a.GetPolicy()}}
	seen := map[string]bool{}
	for _, l := range a.GetEndpoints() {
		key := localityKey(l)
		seen[key] = true
		old := c.localities[key]
		if !s.collects(len(l.GetLbEndpoints()), old != nil) {
			out.Assignment.Endpoints = append(out.Assignment.Endpoints, l)
			out.drop(c, key)
			continue
		}
		if old == nil || updated || old.crowded() {
			out.drop(c, key)
			old = &collection{name: s.epoch(name), members: map[string]bool{}}
			c.localities[key] = old
		}
		out.collect(old, l)
	}
	for _, key := range slices.Sorted(maps.Keys(c.localities)) {
		if !seen[key] {
			out.drop(c, key)
		}
	}
	return out
}

// Drop forgets a cluster and returns its collections.
func (s *Splitter) Drop(name string) (gone []string) {
	c := s.clusters[name]
	if c == nil {
		return nil
	}
	delete(s.clusters, name)
	for _, key := range slices.Sorted(maps.Keys(c.localities)) {
		gone = append(gone, c.localities[key].name)
	}
	return gone
}

// collects reports whether a locality's endpoints go to a collection; has says
// that they do now.
func (s *Splitter) collects(endpoints int, has bool) bool {
	switch {
	case endpoints == 0 || endpoints > most:
		return false
	case s.mode == On:
		return true
	case s.mode == Auto && has:
		return endpoints >= autoUntil
	}
	return s.mode == Auto && endpoints >= autoFrom
}

// epoch makes a name that nobody has asked for yet.
func (s *Splitter) epoch(cluster string) string {
	s.epochs++
	return authority + cluster + "/" + s.process + strconv.FormatUint(s.epochs, 36) + "/*"
}

func (c *collection) crowded() bool { return c.left > max(graves, len(c.members)) }

func localityKey(l *endpointv3.LocalityLbEndpoints) string {
	at := l.GetLocality()
	return fmt.Sprintf("%d/%q/%q/%q", l.GetPriority(), at.GetRegion(), at.GetZone(), at.GetSubZone())
}

// drop forgets a locality's collection, if it has one.
func (out *Split) drop(c *cluster, key string) {
	if old := c.localities[key]; old != nil {
		out.Gone = append(out.Gone, old.name)
		delete(c.localities, key)
	}
}

// collect moves a locality's endpoints to its collection.
func (out *Split) collect(c *collection, l *endpointv3.LocalityLbEndpoints) {
	out.Collections = append(out.Collections, c.name)
	out.Assignment.Endpoints = append(out.Assignment.Endpoints, &endpointv3.LocalityLbEndpoints{
		Locality: l.GetLocality(), Priority: l.GetPriority(), LoadBalancingWeight: l.GetLoadBalancingWeight(),
		LbConfig: &endpointv3.LocalityLbEndpoints_LedsClusterLocalityConfig{LedsClusterLocalityConfig: &endpointv3.LedsClusterLocalityConfig{
			LedsCollectionName: c.name,
			LedsConfig: &corev3.ConfigSource{
				ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
				ResourceApiVersion:    corev3.ApiVersion_V3,
				InitialFetchTimeout:   durationpb.New(fetchTimeout),
			},
		}},
	})
	now := map[string]bool{}
	for _, e := range l.GetLbEndpoints() {
		m := Member{memberName(c.name, e), e}
		if !now[m.Name] {
			now[m.Name] = true
			out.Members = append(out.Members, m)
		}
	}
	for _, m := range slices.Sorted(maps.Keys(c.members)) {
		if !now[m] {
			out.Gone = append(out.Gone, m)
			c.left++
		}
	}
	c.members = now
}

// memberName says which endpoint it is by its address, in characters that need
// no escaping.
func memberName(collection string, e *endpointv3.LbEndpoint) string {
	a := e.GetEndpoint().GetAddress().GetSocketAddress()
	return strings.TrimSuffix(collection, "*") + hex.EncodeToString(addressKey(a.GetAddress(), a.GetPortValue()))
}

package registry

import (
	"math/rand/v2"

	"patchbay/registry/cloudmap"
	"patchbay/registry/state"
)

// discoverable finds a service by the names that DiscoverInstances uses.
func (s *Server) discoverable(v *state.View, namespace, service, owner string) (*state.Service, error) {
	n := v.NamespaceByHTTPName(namespace)
	if n == nil || !s.ours(owner) {
		return nil, cloudmap.NamespaceNotFound(namespace)
	}
	svc := v.ServiceByName(n.ID, service)
	if svc == nil {
		return nil, cloudmap.ServiceNotFound(service)
	}
	return svc, nil
}

func (s *Server) discoverRevision(in *cloudmap.RevisionRequest) (*cloudmap.RevisionResponse, error) {
	out := &cloudmap.RevisionResponse{}
	return out, s.view(func(v *state.View) error {
		svc, err := s.discoverable(v, in.NamespaceName, in.ServiceName, in.OwnerAccount)
		if err == nil {
			out.InstancesRevision = v.Members(svc.ID).Revision
		}
		return err
	})
}

func (s *Server) discoverInstances(in *cloudmap.DiscoverInstancesRequest) (*cloudmap.DiscoverInstancesResponse, error) {
	out := &cloudmap.DiscoverInstancesResponse{Instances: []cloudmap.HTTPInstance{}}
	var svc *state.Service
	var found []*state.Instance
	err := s.view(func(v *state.View) (err error) {
		svc, err = s.discoverable(v, in.NamespaceName, in.ServiceName, in.OwnerAccount)
		if err != nil {
			return err
		}
		out.InstancesRevision = v.Members(svc.ID).Revision
		list := v.Instances(svc.ID)
		found = make([]*state.Instance, 0, list.Len())
		for i := range list.All() {
			if covers(i.Attributes, in.QueryParameters) {
				found = append(found, i)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	found = choose(svc, found, in)
	// The order is random, as on AWS, where callers may rely on it to spread
	// their load.
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] }) //nolint:gosec // not a secret
	for _, i := range found[:min(in.Limit(), len(found))] {
		out.Instances = append(out.Instances, cloudmap.HTTPInstance{
			InstanceID: i.ID, NamespaceName: in.NamespaceName, ServiceName: svc.Name, HealthStatus: health(svc, i), Attributes: i.Attributes,
		})
	}
	return out, nil
}

// choose applies OptionalParameters, if something fits them, and the filter by
// health, which all pass that nobody checks.
func choose(v *state.Service, all []*state.Instance, in *cloudmap.DiscoverInstancesRequest) []*state.Instance {
	if len(in.OptionalParameters) > 0 {
		if fits := keep(all, func(i *state.Instance) bool { return covers(i.Attributes, in.OptionalParameters) }); len(fits) > 0 {
			all = fits
		}
	}
	with := func(status string) []*state.Instance {
		return keep(all, func(i *state.Instance) bool { h := health(v, i); return h == status || h == cloudmap.UnknownHealth })
	}
	switch in.HealthStatus {
	case cloudmap.Healthy, cloudmap.Unhealthy:
		return with(in.HealthStatus)
	case cloudmap.HealthyOrElseAll:
		if healthy := with(cloudmap.Healthy); len(healthy) > 0 {
			return healthy
		}
	}
	return all
}

func keep(all []*state.Instance, ok func(*state.Instance) bool) []*state.Instance {
	var out []*state.Instance
	for _, i := range all {
		if ok(i) {
			out = append(out, i)
		}
	}
	return out
}

func covers(have, want map[string]string) bool {
	for k, v := range want {
		if h, there := have[k]; !there || h != v {
			return false
		}
	}
	return true
}

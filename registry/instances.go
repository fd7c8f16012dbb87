package registry

import (
	"maps"
	"net/netip"
	"strconv"
)

func (s *Server) registerInstance(in struct {
	ServiceId, InstanceId, CreatorRequestId string //nolint:revive // the API's spelling
	Attributes                              map[string]string
}) (any, error) {
	if err := checkInstance(in.InstanceId, in.Attributes); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.findService(in.ServiceId)
	if err != nil {
		return nil, err
	}
	targets := map[string]string{"SERVICE": v.ID, "INSTANCE": in.InstanceId}
	if o := s.replay("REGISTER_INSTANCE", in.CreatorRequestId); o != nil && maps.Equal(o.Targets, targets) {
		return operationID(o), nil
	}
	old := v.instances[in.InstanceId]
	if old == nil && len(v.instances) >= maxInstances {
		return nil, fail("ResourceLimitExceeded", "service %s has %d instances, the most allowed", v.Name, maxInstances)
	}
	i := &instance{ID: in.InstanceId, CreatorRequestID: in.CreatorRequestId, Attributes: clone(in.Attributes), Health: "HEALTHY"}
	if h := i.Attributes["AWS_INIT_HEALTH_STATUS"]; h != "" {
		i.Health = h
		delete(i.Attributes, "AWS_INIT_HEALTH_STATUS")
	}
	b, next := batch{}, *v
	if old == nil || !maps.Equal(old.Attributes, i.Attributes) {
		next.Revision++
	}
	if err := b.put(instanceKey(v.ID, i.ID), i); err != nil {
		return nil, err
	}
	if err := b.put("svc/"+v.ID, &next); err != nil {
		return nil, err
	}
	return s.finish(b, "REGISTER_INSTANCE", in.CreatorRequestId, targets, func() {
		v.Revision = next.Revision
		v.instances[i.ID] = i
	})
}

// checkInstance lists everything that is wrong.
func checkInstance(id string, a map[string]string) error {
	if !instanceIDForm.MatchString(id) {
		return fail("InvalidInput", "InstanceId: %q; allowed: 1 to 64 of [0-9a-zA-Z_/:.@-]", id)
	}
	if len(a) > maxInstanceAttributes {
		return fail("InvalidInput", "Attributes: %d; allowed: %d", len(a), maxInstanceAttributes)
	}
	chars := 0
	for k, v := range a {
		chars += len(k) + len(v)
	}
	if chars > maxAttributeChars {
		return fail("InvalidInput", "Attributes: %d characters in all; allowed: %d", chars, maxAttributeChars)
	}
	if err := checkAttributes(a); err != nil {
		return err
	}
	if ip := a["AWS_INSTANCE_IPV4"]; ip != "" {
		if p, err := netip.ParseAddr(ip); err != nil || !p.Is4() {
			return fail("InvalidInput", "AWS_INSTANCE_IPV4: %q is not an IPv4 address", ip)
		}
	}
	if ip := a["AWS_INSTANCE_IPV6"]; ip != "" {
		if p, err := netip.ParseAddr(ip); err != nil || !p.Is6() || p.Zone() != "" {
			return fail("InvalidInput", "AWS_INSTANCE_IPV6: %q is not an IPv6 address", ip)
		}
	}
	if port := a["AWS_INSTANCE_PORT"]; port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fail("InvalidInput", "AWS_INSTANCE_PORT: %q; allowed: 1 to 65535", port)
		}
	}
	if h := a["AWS_INIT_HEALTH_STATUS"]; h != "" && h != "HEALTHY" && h != "UNHEALTHY" {
		return fail("InvalidInput", "AWS_INIT_HEALTH_STATUS: %q; allowed: HEALTHY, UNHEALTHY", h)
	}
	return nil
}

type instanceRequest struct {
	ServiceId, InstanceId, Status string //nolint:revive // the API's spelling
}

func (s *Server) findInstance(in instanceRequest) (*service, *instance, error) {
	v, err := s.findService(in.ServiceId)
	if err != nil {
		return nil, nil, err
	}
	i := v.instances[in.InstanceId]
	if i == nil {
		return nil, nil, fail("InstanceNotFound", "service %s has no instance %q", v.Name, in.InstanceId)
	}
	return v, i, nil
}

func (s *Server) deregisterInstance(in instanceRequest) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, i, err := s.findInstance(in)
	if err != nil {
		return nil, err
	}
	b, next := batch{instanceKey(v.ID, i.ID): nil}, *v
	next.Revision++
	if err := b.put("svc/"+v.ID, &next); err != nil {
		return nil, err
	}
	return s.finish(b, "DEREGISTER_INSTANCE", "", map[string]string{"SERVICE": v.ID, "INSTANCE": i.ID}, func() {
		v.Revision = next.Revision
		delete(v.instances, i.ID)
	})
}

// setHealth never changes the revision: that counts membership alone.
func (s *Server) setHealth(in instanceRequest) (any, error) {
	if in.Status != "HEALTHY" && in.Status != "UNHEALTHY" {
		return nil, fail("InvalidInput", "Status: %q; allowed: HEALTHY, UNHEALTHY", in.Status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, i, err := s.findInstance(in)
	if err != nil {
		return nil, err
	}
	if !v.HealthCheckCustom {
		return nil, fail("CustomHealthNotFound", "service %s has no custom health check", v.Name)
	}
	b, next := batch{}, *i
	next.Health = in.Status
	if err := b.put(instanceKey(v.ID, i.ID), &next); err != nil {
		return nil, err
	}
	if err := s.store.Apply(b); err != nil {
		return nil, err
	}
	if i.Health != next.Health {
		v.instances[i.ID] = &next
		s.wake()
	}
	return obj{}, nil
}

func (s *Server) getInstance(in instanceRequest) (any, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, i, err := s.findInstance(in)
	if err != nil {
		return nil, err
	}
	return obj{"ResourceOwner": s.o.Account, "Instance": obj{"Id": i.ID, "Attributes": i.Attributes, "CreatorRequestId": i.CreatorRequestID}}, nil
}

func (s *Server) listInstances(in struct {
	listRequest
	ServiceId string //nolint:revive // the API's spelling
}) (any, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, err := s.findService(in.ServiceId)
	if err != nil {
		return nil, err
	}
	all, next, err := page(sortedBy(v.instances, func(i *instance) string { return i.ID }), func(i *instance) string { return i.ID }, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := []obj{}
	for _, i := range all {
		out = append(out, obj{"Id": i.ID, "Attributes": i.Attributes})
	}
	return answerPage("Instances", out, next), nil
}

type discoverRequest struct {
	NamespaceName, ServiceName, HealthStatus string
	MaxResults                               *int
	QueryParameters, OptionalParameters      map[string]string
}

func (s *Server) findByName(in discoverRequest) (*service, error) {
	for _, n := range s.namespaces {
		if n.Name != in.NamespaceName {
			continue
		}
		for _, v := range s.services {
			if v.NamespaceID == n.ID && v.Name == in.ServiceName {
				return v, nil
			}
		}
		return nil, fail("ServiceNotFound", "namespace %s has no service %q", n.Name, in.ServiceName)
	}
	return nil, fail("NamespaceNotFound", "there is no namespace %q", in.NamespaceName)
}

func (s *Server) discoverRevision(in discoverRequest) (any, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, err := s.findByName(in)
	if err != nil {
		return nil, err
	}
	return obj{"InstancesRevision": v.Revision}, nil
}

func (s *Server) discoverInstances(in discoverRequest) (any, error) {
	most := 100
	if in.MaxResults != nil {
		if most = *in.MaxResults; most < 1 || most > 1000 {
			return nil, fail("InvalidInput", "MaxResults: %d; allowed: 1 to 1000", most)
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, err := s.findByName(in)
	if err != nil {
		return nil, err
	}
	found, err := v.discover(in)
	if err != nil {
		return nil, err
	}
	out := []obj{}
	for _, i := range found[:min(most, len(found))] {
		out = append(out, obj{"InstanceId": i.ID, "NamespaceName": in.NamespaceName, "ServiceName": in.ServiceName, "HealthStatus": v.health(i), "Attributes": i.Attributes})
	}
	return obj{"Instances": out, "InstancesRevision": v.Revision}, nil
}

func (v *service) health(i *instance) string {
	if !v.HealthCheckCustom {
		return "UNKNOWN"
	}
	return i.Health
}

// discover applies the filters: health only where the service has a health
// check, OptionalParameters only if something fits both.
func (v *service) discover(in discoverRequest) ([]*instance, error) {
	var all, healthy, fits []*instance
	for _, i := range sortedBy(v.instances, func(i *instance) string { return i.ID }) {
		if !covers(i.Attributes, in.QueryParameters) {
			continue
		}
		all = append(all, i)
	}
	for _, i := range all {
		if covers(i.Attributes, in.OptionalParameters) {
			fits = append(fits, i)
		}
	}
	if len(fits) > 0 {
		all = fits
	}
	if !v.HealthCheckCustom || in.HealthStatus == "" || in.HealthStatus == "ALL" {
		return all, nil
	}
	want := in.HealthStatus
	if want == "HEALTHY_OR_ELSE_ALL" {
		want = "HEALTHY"
	} else if want != "HEALTHY" && want != "UNHEALTHY" {
		return nil, fail("InvalidInput", "HealthStatus: %q; allowed: HEALTHY, UNHEALTHY, ALL, HEALTHY_OR_ELSE_ALL", in.HealthStatus)
	}
	for _, i := range all {
		if i.Health == want {
			healthy = append(healthy, i)
		}
	}
	if len(healthy) == 0 && in.HealthStatus == "HEALTHY_OR_ELSE_ALL" {
		return all, nil
	}
	return healthy, nil
}

func covers(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

package registry

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Limits of attributes: the API reference.
const (
	maxServiceAttributes  = 30
	maxInstanceAttributes = 30
	maxAttributeChars     = 5000
	maxAttributeValue     = 1024
	maxInstances          = 1000
)

func (s *Server) createService(in struct {
	Name, NamespaceId, Description, CreatorRequestId, Type string //nolint:revive // the API's spelling
	HealthCheckCustomConfig                                json.RawMessage
	HealthCheckConfig                                      json.RawMessage
	DnsConfig                                              json.RawMessage //nolint:revive // the API's spelling
	Tags                                                   []tag
}) (any, error) {
	if !serviceNameForm.MatchString(in.Name) || len(in.Name) > 127 {
		return nil, fail("InvalidInput", "Name: %q; allowed: up to 127 characters, labels of [A-Za-z0-9_-] joined by dots", in.Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.findNamespace(in.NamespaceId)
	if err != nil {
		return nil, err
	}
	for _, v := range s.services {
		if v.NamespaceID != n.ID || v.Name != in.Name {
			continue
		}
		if in.CreatorRequestId != "" && v.CreatorRequestID == in.CreatorRequestId {
			return obj{"Service": s.describeService(v)}, nil
		}
		return nil, &apiError{Type: "ServiceAlreadyExists", Text: "namespace " + n.Name + " has a service " + in.Name, Extra: map[string]string{"ServiceId": v.ID, "ServiceArn": s.arn("service", v.ID), "CreatorRequestId": v.CreatorRequestID}}
	}
	v := &service{
		ID: newID("srv-"), NamespaceID: n.ID, Name: in.Name, Description: in.Description, CreatorRequestID: in.CreatorRequestId, Type: "HTTP",
		CreateDate: now(), HealthCheckCustom: len(in.HealthCheckCustomConfig) > 0, HealthCheckConfig: in.HealthCheckConfig, DNSConfig: in.DnsConfig,
		Tags: tagMap(in.Tags), Attributes: map[string]string{}, Revision: n.Floor, instances: map[string]*instance{},
	}
	if len(v.DNSConfig) > 0 {
		v.Type = "DNS_HTTP"
	}
	b := batch{}
	if err := b.put("svc/"+v.ID, v); err != nil {
		return nil, err
	}
	if err := s.store.Apply(b); err != nil {
		return nil, err
	}
	s.services[v.ID] = v
	s.wake()
	return obj{"Service": s.describeService(v)}, nil
}

func (s *Server) describeService(v *service) obj {
	out := obj{
		"Id": v.ID, "Arn": s.arn("service", v.ID), "Name": v.Name, "NamespaceId": v.NamespaceID, "Description": v.Description, "Type": v.Type,
		"CreateDate": v.CreateDate, "InstanceCount": len(v.instances), "CreatorRequestId": v.CreatorRequestID, "ResourceOwner": s.o.Account,
	}
	if v.HealthCheckCustom {
		out["HealthCheckCustomConfig"] = obj{"FailureThreshold": 1}
	}
	if len(v.DNSConfig) > 0 {
		out["DnsConfig"] = v.DNSConfig
	}
	if len(v.HealthCheckConfig) > 0 {
		out["HealthCheckConfig"] = v.HealthCheckConfig
	}
	return out
}

func (s *Server) findService(id string) (*service, error) {
	v := s.services[plain(id)]
	if v == nil {
		return nil, fail("ServiceNotFound", "there is no service %q", id)
	}
	return v, nil
}

func (s *Server) getService(in struct{ Id string }) (any, error) { //nolint:revive // the API's spelling
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, err := s.findService(in.Id)
	if err != nil {
		return nil, err
	}
	return obj{"Service": s.describeService(v)}, nil
}

func (s *Server) listServices(in listRequest) (any, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i, f := range in.Filters {
		if f.Name == "NAMESPACE_ID" {
			in.Filters[i].Values = slices.Collect(maps.Values(mapValues(f.Values)))
		}
	}
	all, next, err := page(sortedBy(s.services, func(v *service) string { return v.ID }), func(v *service) string { return v.ID }, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := []obj{}
	for _, v := range all {
		if matches(in.Filters, map[string]string{"NAMESPACE_ID": v.NamespaceID, "RESOURCE_OWNER": "SELF"}) {
			out = append(out, s.describeService(v))
		}
	}
	return answerPage("Services", out, next), nil
}

func mapValues(ids []string) map[string]string {
	m := map[string]string{}
	for _, id := range ids {
		m[id] = plain(id)
	}
	return m
}

func (s *Server) deleteService(in struct{ Id string }) (any, error) { //nolint:revive // the API's spelling
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.findService(in.Id)
	if err != nil {
		return nil, err
	}
	if len(v.instances) > 0 {
		return nil, fail("ResourceInUse", "service %s has %d instances: deregister them first", v.Name, len(v.instances))
	}
	b := batch{"svc/" + v.ID: nil}
	n := s.namespaces[v.NamespaceID]
	old := n.Floor
	n.Floor = max(n.Floor, v.Revision+1)
	if err := b.put("ns/"+n.ID, n); err != nil {
		return nil, err
	}
	if err := s.store.Apply(b); err != nil {
		n.Floor = old
		return nil, err
	}
	delete(s.services, v.ID)
	s.wake()
	return obj{}, nil
}

func (s *Server) getServiceAttributes(in struct{ ServiceId string }) (any, error) { //nolint:revive // the API's spelling
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, err := s.findService(in.ServiceId)
	if err != nil {
		return nil, err
	}
	return obj{"ServiceAttributes": obj{"ServiceArn": s.arn("service", v.ID), "ResourceOwner": s.o.Account, "Attributes": clone(v.Attributes)}}, nil
}

func (s *Server) updateServiceAttributes(in struct {
	ServiceId  string //nolint:revive // the API's spelling
	Attributes map[string]string
}) (any, error) {
	return s.changeAttributes(in.ServiceId, func(a map[string]string) error {
		maps.Copy(a, in.Attributes)
		if len(a) > maxServiceAttributes {
			return fail("ServiceAttributesLimitExceededException", "the service would have %d attributes; allowed: %d", len(a), maxServiceAttributes)
		}
		return checkAttributes(in.Attributes)
	})
}

func (s *Server) deleteServiceAttributes(in struct {
	ServiceId  string //nolint:revive // the API's spelling
	Attributes []string
}) (any, error) {
	return s.changeAttributes(in.ServiceId, func(a map[string]string) error {
		for _, k := range in.Attributes {
			delete(a, k)
		}
		return nil
	})
}

func (s *Server) changeAttributes(id string, change func(map[string]string) error) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.findService(id)
	if err != nil {
		return nil, err
	}
	next := *v
	next.Attributes = clone(v.Attributes)
	if err := change(next.Attributes); err != nil {
		return nil, err
	}
	b := batch{}
	if err := b.put("svc/"+v.ID, &next); err != nil {
		return nil, err
	}
	if err := s.store.Apply(b); err != nil {
		return nil, err
	}
	v.Attributes = next.Attributes
	s.wake()
	return obj{}, nil
}

// checkAttributes lists everything that is wrong.
func checkAttributes(m map[string]string) error {
	var bad []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if !attributeKeyForm.MatchString(k) {
			bad = append(bad, "key "+k+": allowed are 1 to 255 printable characters without spaces")
		}
		if len(m[k]) > maxAttributeValue {
			bad = append(bad, "value of "+k+": allowed are up to 1024 characters")
		}
	}
	if len(bad) > 0 {
		return fail("InvalidInput", "Attributes: %s", strings.Join(bad, "; "))
	}
	return nil
}

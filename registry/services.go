package registry

import (
	"encoding/json"
	"maps"
	"strings"

	"patchbay/internal/count"
	"patchbay/registry/cloudmap"
	"patchbay/registry/state"
	"patchbay/registry/watch"
)

func (s *Server) createService(in *cloudmap.CreateServiceRequest) (*cloudmap.CreateServiceResponse, error) {
	out := &cloudmap.CreateServiceResponse{}
	return out, s.db.Update(func(tx *state.Tx) error {
		n := tx.Namespaces.Get(plainID(kindNamespace, in.Namespace()))
		if n == nil {
			return cloudmap.NamespaceNotFound(in.Namespace())
		}
		var p cloudmap.Problems
		in.CheckFor(&p, n.Type)
		if err := p.Err(); err != nil {
			return err
		}
		if old := tx.ServiceNamed(n.ID, in.Name, in.DNSConfig != nil); old != nil {
			if in.CreatorRequestID != "" && old.Creator == in.CreatorRequestID && old.Name == in.Name {
				out.Service = s.describeService(old, *tx.Members.Get(old.ID)) // the same request again
				return nil
			}
			return cloudmap.ServiceAlreadyExists(old.Name, old.ID, s.arn(kindService, old.ID), old.Creator)
		}
		v := &state.Service{
			ID: newID("srv-"), NamespaceID: n.ID, Name: in.Name, Type: cloudmap.TypeHTTP, Description: in.Description, DNS: in.DNSConfig,
			Check: in.HealthCheckConfig, Custom: in.HealthCheckCustomConfig, Created: now(), Creator: in.CreatorRequestID, Tags: cloudmap.TagMap(in.Tags),
		}
		if v.DNS != nil {
			v.Type = cloudmap.TypeDNSHTTP
			v.DNS.NamespaceID = n.ID
			v.DNS.Complete()
		}
		v.Check.Complete()
		v.Custom.Complete()
		tx.Services.Put(v.ID, v)
		tx.Members.Put(v.ID, &state.Members{Revision: n.Floor})
		tx.Namespaces.Edit(n.ID).Services++
		s.tellOf(tx, watch.Services, v)
		out.Service = s.describeService(v, state.Members{})
		return nil
	})
}

func (s *Server) describeService(v *state.Service, m state.Members) cloudmap.Service {
	out := s.summarizeService(v, m)
	out.NamespaceID, out.CreatorRequestID = v.NamespaceID, v.Creator
	return out
}

// summarizeService is a service in a list.
func (s *Server) summarizeService(v *state.Service, m state.Members) cloudmap.Service {
	return cloudmap.Service{
		ID: v.ID, ARN: s.arn(kindService, v.ID), ResourceOwner: s.o.Account, CreatedByAccount: s.o.Account, Name: v.Name, Description: v.Description,
		InstanceCount: m.Instances, DNSConfig: v.DNS, Type: v.Type, HealthCheckConfig: v.Check, HealthCheckCustomConfig: v.Custom,
		CreateDate: cloudmap.Time(v.Created),
	}
}

func (s *Server) getService(in *cloudmap.IDRequest) (*cloudmap.CreateServiceResponse, error) {
	out := &cloudmap.CreateServiceResponse{}
	return out, s.view(func(v *state.View) error {
		svc, err := findService(v.Service, in.ID)
		if err == nil {
			out.Service = s.describeService(svc, v.Members(svc.ID))
		}
		return err
	})
}

// findService looks a service up by its id or ARN.
func findService(get func(id string) *state.Service, idOrARN string) (*state.Service, error) {
	if v := get(plainID(kindService, idOrARN)); v != nil {
		return v, nil
	}
	return nil, cloudmap.ServiceNotFound(idOrARN)
}

func (s *Server) listServices(in *cloudmap.ListServicesRequest) (*cloudmap.ListServicesResponse, error) {
	for _, f := range in.Filters {
		if f.Name == "NAMESPACE_ID" {
			for i, v := range f.Values {
				f.Values[i] = plainID(kindNamespace, v)
			}
		}
	}
	out := &cloudmap.ListServicesResponse{}
	return out, s.view(func(v *state.View) (err error) {
		out.Services, out.NextToken, err = page(v.Services(), in.Page, func(svc *state.Service) (cloudmap.Service, bool) {
			return s.summarizeService(svc, v.Members(svc.ID)), cloudmap.Match(in.Filters, func(name string) string {
				return map[string]string{"NAMESPACE_ID": svc.NamespaceID, "RESOURCE_OWNER": "SELF"}[name]
			})
		})
		return err
	})
}

func (s *Server) updateService(in *cloudmap.UpdateServiceRequest) (*cloudmap.OperationStarted, error) {
	id := plainID(kindService, in.ID)
	return s.submit(submission{of: cloudmap.UpdateService, lock: kindService + "/" + id}, func(tx *state.Tx, o *state.Operation) error {
		v, err := findService(tx.Services.Get, in.ID)
		if err != nil {
			return err
		}
		var p cloudmap.Problems
		in.CheckFor(&p, v.DNS, v.Custom != nil, tx.Namespaces.Get(v.NamespaceID).Type)
		if err := p.Err(); err != nil {
			return err
		}
		o.Namespace, o.Service = v.NamespaceID, v.ID
		o.Targets = map[string]string{cloudmap.TargetService: v.ID}
		return carry(o, in.Service)
	})
}

func (s *Server) updatedService(tx *state.Tx, o *state.Operation) error {
	var c cloudmap.ServiceChange
	if err := json.Unmarshal(o.Payload, &c); err != nil {
		return err
	}
	if tx.Services.Get(o.Service) == nil {
		return cloudmap.ServiceNotFound(o.Service)
	}
	v := tx.Services.Edit(o.Service)
	if c.Description != nil {
		v.Description = *c.Description
	}
	if n := tx.Namespaces.Get(v.NamespaceID); n.Type != cloudmap.TypeHTTP {
		if v.Check = c.HealthCheckConfig; v.Check != nil {
			v.Check.Complete()
		}
		v.DNS, v.Type = v.DNS.Changed(c.DNSConfig), cloudmap.TypeHTTP
		if v.DNS != nil {
			v.Type = cloudmap.TypeDNSHTTP
		}
	}
	s.tellOf(tx, watch.Services, v)
	return nil
}

func (s *Server) deleteService(in *cloudmap.IDRequest) (*cloudmap.Empty, error) {
	return &cloudmap.Empty{}, s.db.Update(func(tx *state.Tx) error {
		v, err := findService(tx.Services.Get, in.ID)
		if err != nil {
			return err
		}
		m := tx.Members.Get(v.ID)
		if m.Instances > 0 {
			return cloudmap.ResourceInUse("Service %s has %s, to be deregistered first.", v.ID, count.Of(m.Instances, "instance"))
		}
		s.tellOf(tx, watch.Services, v)
		n := tx.Namespaces.Edit(v.NamespaceID)
		n.Services--
		n.Floor = max(n.Floor, m.Revision+1)
		tx.Services.Delete(v.ID)
		tx.Members.Delete(v.ID)
		return nil
	})
}

func (s *Server) getServiceAttributes(in *cloudmap.ServiceIDRequest) (*cloudmap.GetServiceAttributesResponse, error) {
	out := &cloudmap.GetServiceAttributesResponse{}
	return out, s.view(func(v *state.View) error {
		svc, err := findService(v.Service, in.ServiceID)
		if err != nil {
			return err
		}
		out.ServiceAttributes = cloudmap.ServiceAttributes{ServiceARN: s.arn(kindService, svc.ID), ResourceOwner: s.o.Account, Attributes: svc.Attributes}
		if svc.Attributes == nil {
			out.ServiceAttributes.Attributes = map[string]string{}
		}
		return nil
	})
}

func (s *Server) updateServiceAttributes(in *cloudmap.UpdateServiceAttributesRequest) (*cloudmap.Empty, error) {
	return s.changeAttributes(in.ServiceID, func(a map[string]string) { maps.Copy(a, in.Attributes) })
}

func (s *Server) deleteServiceAttributes(in *cloudmap.DeleteServiceAttributesRequest) (*cloudmap.Empty, error) {
	return s.changeAttributes(in.ServiceID, func(a map[string]string) {
		for _, k := range in.Attributes {
			delete(a, k)
		}
	})
}

func (s *Server) changeAttributes(id string, change func(map[string]string)) (*cloudmap.Empty, error) {
	return &cloudmap.Empty{}, s.db.Update(func(tx *state.Tx) error {
		v, err := findService(tx.Services.Get, id)
		if err != nil {
			return err
		}
		next := map[string]string{}
		maps.Copy(next, v.Attributes)
		if change(next); maps.Equal(next, v.Attributes) {
			return nil
		}
		if len(next) > cloudmap.MaxServiceAttributes {
			return cloudmap.ServiceAttributesLimitExceeded(v.ID)
		}
		tx.Services.Edit(v.ID).Attributes = next
		s.tellOf(tx, watch.Attributes, v)
		return nil
	})
}

func (s *Server) tagResource(in *cloudmap.TagResourceRequest) (*cloudmap.Empty, error) {
	return s.changeTags(in.ResourceARN, func(t map[string]string) { maps.Copy(t, cloudmap.TagMap(in.Tags)) })
}

func (s *Server) untagResource(in *cloudmap.UntagResourceRequest) (*cloudmap.Empty, error) {
	return s.changeTags(in.ResourceARN, func(t map[string]string) {
		for _, k := range in.TagKeys {
			delete(t, k)
		}
	})
}

func (s *Server) changeTags(arn string, change func(map[string]string)) (*cloudmap.Empty, error) {
	return &cloudmap.Empty{}, s.db.Update(func(tx *state.Tx) error {
		n, v := tagged(tx.Namespaces.Get, tx.Services.Get, arn)
		next := map[string]string{}
		switch {
		case n != nil:
			maps.Copy(next, n.Tags)
		case v != nil:
			maps.Copy(next, v.Tags)
		default:
			return cloudmap.ResourceNotFound(arn)
		}
		if change(next); len(next) > cloudmap.MaxTags {
			return cloudmap.TooManyTags(arn)
		}
		if n != nil {
			tx.Namespaces.Edit(n.ID).Tags = next
		} else {
			tx.Services.Edit(v.ID).Tags = next
		}
		return nil
	})
}

// tagged is the namespace or the service that an ARN names, or neither.
func tagged(namespace func(string) *state.Namespace, service func(string) *state.Service, arn string) (*state.Namespace, *state.Service) {
	if !strings.HasPrefix(arn, "arn:") {
		return nil, nil
	}
	return namespace(plainID(kindNamespace, arn)), service(plainID(kindService, arn))
}

func (s *Server) listTags(in *cloudmap.ListTagsRequest) (*cloudmap.ListTagsResponse, error) {
	out := &cloudmap.ListTagsResponse{}
	return out, s.view(func(v *state.View) error {
		n, svc := tagged(v.Namespace, v.Service, in.ResourceARN)
		switch {
		case n != nil:
			out.Tags = cloudmap.TagList(n.Tags)
		case svc != nil:
			out.Tags = cloudmap.TagList(svc.Tags)
		default:
			return cloudmap.ResourceNotFound(in.ResourceARN)
		}
		return nil
	})
}

package registry

import (
	"cmp"
	"encoding/json"

	"patchbay/internal/count"
	"patchbay/registry/cloudmap"
	"patchbay/registry/state"
	"patchbay/registry/watch"
)

const kindNamespace, kindService = "namespace", "service"

func (s *Server) createNamespace(in *cloudmap.CreateNamespaceRequest) (*cloudmap.OperationStarted, error) {
	sub := submission{
		of: cloudmap.CreateNamespace, token: in.CreatorRequestID, scope: in.Of, request: in,
		lock: "name/" + in.Of + "/" + in.VPC + "/" + in.Name,
	}
	return s.submit(sub, func(tx *state.Tx, o *state.Operation) error {
		if old := tx.NamespaceNamed(in.Of, in.VPC, in.Name); old != nil {
			return cloudmap.NamespaceAlreadyExists(in.Name, old.ID, old.Creator)
		}
		n := &state.Namespace{
			ID: newID("ns-"), Name: in.Name, HTTPName: in.Name, Type: in.Of, VPC: in.VPC, Description: in.Description,
			Creator: in.CreatorRequestID, Tags: cloudmap.TagMap(in.Tags), SOATTL: in.Properties.TTL(),
		}
		if in.Of != cloudmap.TypeHTTP {
			n.HostedZone = newID("Z")
		}
		o.Namespace = n.ID
		o.Targets = map[string]string{cloudmap.TargetNamespace: n.ID}
		return carry(o, n)
	})
}

// madeNamespace carries out createNamespace.
func (s *Server) madeNamespace(tx *state.Tx, o *state.Operation) error {
	n := &state.Namespace{}
	if err := json.Unmarshal(o.Payload, n); err != nil {
		return err
	}
	// A name may be used again with another type or VPC; then a hash tells the
	// HttpNames apart, as on AWS.
	if tx.HasHTTPName(n.HTTPName) {
		n.HTTPName += "-" + n.ID[len("ns-"):]
	}
	n.Created = now()
	if f := tx.Floors.Get(state.FloorKey); f != nil {
		n.Floor = f.Revision
	}
	tx.Namespaces.Put(n.ID, n)
	s.tell(tx, watch.Namespaces, n, "")
	return nil
}

func (s *Server) updateNamespace(in *cloudmap.UpdateNamespaceRequest) (*cloudmap.OperationStarted, error) {
	id := plainID(kindNamespace, in.ID)
	sub := submission{of: cloudmap.UpdateNamespace, token: in.UpdaterRequestID, request: in, lock: kindNamespace + "/" + id}
	return s.submit(sub, func(tx *state.Tx, o *state.Operation) error {
		n := tx.Namespaces.Get(id)
		if n == nil {
			return cloudmap.NamespaceNotFound(in.ID)
		}
		if n.Type != in.Of {
			return cloudmap.InvalidInput("Namespace %s is of type %s; this operation is for %s.", n.ID, n.Type, in.Of)
		}
		o.Namespace = n.ID
		o.Targets = map[string]string{cloudmap.TargetNamespace: n.ID}
		return carry(o, in.Namespace)
	})
}

func (s *Server) updatedNamespace(tx *state.Tx, o *state.Operation) error {
	var c cloudmap.NamespaceChange
	if err := json.Unmarshal(o.Payload, &c); err != nil {
		return err
	}
	if tx.Namespaces.Get(o.Namespace) == nil {
		return cloudmap.NamespaceNotFound(o.Namespace)
	}
	n := tx.Namespaces.Edit(o.Namespace)
	if c.Description != nil {
		n.Description = *c.Description
	}
	n.SOATTL = cmp.Or(c.Properties.TTL(), n.SOATTL)
	s.tell(tx, watch.Namespaces, n, "")
	return nil
}

func (s *Server) deleteNamespace(in *cloudmap.IDRequest) (*cloudmap.OperationStarted, error) {
	id := plainID(kindNamespace, in.ID)
	sub := submission{of: cloudmap.DeleteNamespace, lock: kindNamespace + "/" + id}
	return s.submit(sub, func(tx *state.Tx, o *state.Operation) error {
		n := tx.Namespaces.Get(id)
		if n == nil {
			return cloudmap.NamespaceNotFound(in.ID)
		}
		if n.Services > 0 {
			return cloudmap.ResourceInUse("Namespace %s has %s, to be deleted first.", n.ID, count.Of(n.Services, "service"))
		}
		o.Namespace = n.ID
		o.Targets = map[string]string{cloudmap.TargetNamespace: n.ID}
		return nil
	})
}

func (s *Server) deletedNamespace(tx *state.Tx, o *state.Operation) error {
	n := tx.Namespaces.Get(o.Namespace)
	if n == nil {
		return cloudmap.NamespaceNotFound(o.Namespace)
	}
	if n.Services > 0 {
		return cloudmap.ResourceInUse("Namespace %s has %s, to be deleted first.", n.ID, count.Of(n.Services, "service"))
	}
	if f := tx.Floors.Get(state.FloorKey); f == nil || f.Revision < n.Floor {
		tx.Floors.Put(state.FloorKey, &state.Floor{Revision: n.Floor})
	}
	tx.Namespaces.Delete(n.ID)
	s.tell(tx, watch.Namespaces, n, "")
	return nil
}

// describeNamespace is a namespace in an answer, without what only
// GetNamespace has.
func (s *Server) describeNamespace(n *state.Namespace) cloudmap.Namespace {
	services := n.Services
	out := cloudmap.Namespace{
		ID: n.ID, ARN: s.arn(kindNamespace, n.ID), ResourceOwner: s.o.Account, Name: n.Name, Type: n.Type, Description: n.Description,
		ServiceCount: &services, CreateDate: cloudmap.Time(n.Created),
		Properties: cloudmap.NamespaceProperties{HTTPProperties: &cloudmap.HTTPProperties{HTTPName: n.HTTPName}},
	}
	if n.HostedZone != "" {
		ttl := n.SOATTL
		out.Properties.DNSProperties = &cloudmap.DNSProperties{HostedZoneID: n.HostedZone, SOA: &cloudmap.SOA{TTL: &ttl}}
	}
	return out
}

func (s *Server) getNamespace(in *cloudmap.IDRequest) (*cloudmap.GetNamespaceResponse, error) {
	out := &cloudmap.GetNamespaceResponse{}
	err := s.view(func(v *state.View) error {
		n := v.Namespace(plainID(kindNamespace, in.ID))
		if n == nil {
			return cloudmap.NamespaceNotFound(in.ID)
		}
		out.Namespace = s.describeNamespace(n)
		out.Namespace.CreatorRequestID = n.Creator
		return nil
	})
	return out, err
}

func (s *Server) listNamespaces(in *cloudmap.ListNamespacesRequest) (*cloudmap.ListNamespacesResponse, error) {
	out := &cloudmap.ListNamespacesResponse{}
	err := s.view(func(v *state.View) (err error) {
		out.Namespaces, out.NextToken, err = page(v.Namespaces(), in.Page, func(n *state.Namespace) (cloudmap.Namespace, bool) {
			return s.describeNamespace(n), cloudmap.Match(in.Filters, func(name string) string {
				return map[string]string{"TYPE": n.Type, "NAME": n.Name, "HTTP_NAME": n.HTTPName, "RESOURCE_OWNER": "SELF"}[name]
			})
		})
		return err
	})
	return out, err
}

package registry

import (
	"patchbay/registry/cloudmap"
	"patchbay/registry/protocol"
)

// operations is what the registry answers: the API's 30.
func (s *Server) operations() map[string]protocol.Operation {
	return map[string]protocol.Operation{
		"CreateHttpNamespace":       protocol.Writes(s.createNamespace, cloudmap.CreateNamespaceRequest{Of: cloudmap.TypeHTTP}),
		"CreatePrivateDnsNamespace": protocol.Writes(s.createNamespace, cloudmap.CreateNamespaceRequest{Of: cloudmap.TypeDNSPrivate}),
		"CreatePublicDnsNamespace":  protocol.Writes(s.createNamespace, cloudmap.CreateNamespaceRequest{Of: cloudmap.TypeDNSPublic}),
		"UpdateHttpNamespace":       protocol.Writes(s.updateNamespace, cloudmap.UpdateNamespaceRequest{Of: cloudmap.TypeHTTP}),
		"UpdatePrivateDnsNamespace": protocol.Writes(s.updateNamespace, cloudmap.UpdateNamespaceRequest{Of: cloudmap.TypeDNSPrivate}),
		"UpdatePublicDnsNamespace":  protocol.Writes(s.updateNamespace, cloudmap.UpdateNamespaceRequest{Of: cloudmap.TypeDNSPublic}),
		"GetNamespace":              protocol.Reads(s.getNamespace, cloudmap.IDRequest{}),
		"ListNamespaces":            protocol.Reads(s.listNamespaces, cloudmap.ListNamespacesRequest{}),
		"DeleteNamespace":           protocol.Writes(s.deleteNamespace, cloudmap.IDRequest{}),

		"CreateService":           protocol.Writes(s.createService, cloudmap.CreateServiceRequest{}),
		"UpdateService":           protocol.Writes(s.updateService, cloudmap.UpdateServiceRequest{}),
		"GetService":              protocol.Reads(s.getService, cloudmap.IDRequest{}),
		"ListServices":            protocol.Reads(s.listServices, cloudmap.ListServicesRequest{}),
		"DeleteService":           protocol.Writes(s.deleteService, cloudmap.IDRequest{}),
		"GetServiceAttributes":    protocol.Reads(s.getServiceAttributes, cloudmap.ServiceIDRequest{}),
		"UpdateServiceAttributes": protocol.Writes(s.updateServiceAttributes, cloudmap.UpdateServiceAttributesRequest{}),
		"DeleteServiceAttributes": protocol.Writes(s.deleteServiceAttributes, cloudmap.DeleteServiceAttributesRequest{}),

		"RegisterInstance":                 protocol.Writes(s.registerInstance, cloudmap.RegisterInstanceRequest{}),
		"DeregisterInstance":               protocol.Writes(s.deregisterInstance, cloudmap.InstanceRequest{}),
		"GetInstance":                      protocol.Reads(s.getInstance, cloudmap.InstanceRequest{}),
		"ListInstances":                    protocol.Reads(s.listInstances, cloudmap.ListInstancesRequest{}),
		"GetInstancesHealthStatus":         protocol.Reads(s.instancesHealth, cloudmap.InstancesHealthRequest{}),
		"UpdateInstanceCustomHealthStatus": protocol.Writes(s.setHealth, cloudmap.UpdateHealthRequest{}),
		"DiscoverInstances":                protocol.Reads(s.discoverInstances, cloudmap.DiscoverInstancesRequest{}),
		"DiscoverInstancesRevision":        protocol.Reads(s.discoverRevision, cloudmap.RevisionRequest{}),

		"GetOperation":        protocol.Reads(s.getOperation, cloudmap.GetOperationRequest{}),
		"ListOperations":      protocol.Reads(s.listOperations, cloudmap.ListOperationsRequest{}),
		"TagResource":         protocol.Writes(s.tagResource, cloudmap.TagResourceRequest{}),
		"UntagResource":       protocol.Writes(s.untagResource, cloudmap.UntagResourceRequest{}),
		"ListTagsForResource": protocol.Reads(s.listTags, cloudmap.ListTagsRequest{}),
	}
}

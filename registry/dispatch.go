package registry

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"patchbay/registry/cloudmap"
)

// request is one of package cloudmap's.
type request interface{ Check(*cloudmap.Problems) }

// operation is one of the API's.
type operation struct {
	writes bool
	empty  func() request
	serve  func(*Server, request) (any, error)
}

// does makes an operation of a method. R is the request, without the pointer.
func does[R any, P interface {
	*R
	request
}, A any](writes bool, serve func(*Server, P) (A, error), start R) operation {
	return operation{
		writes: writes,
		empty:  func() request { r := start; return P(&r) },
		serve:  func(s *Server, r request) (any, error) { return serve(s, r.(P)) },
	}
}

const reads, writes = false, true

// operations is what the registry answers: the API's 30.
var operations = map[string]operation{
	"CreateHttpNamespace":       does(writes, (*Server).createNamespace, cloudmap.CreateNamespaceRequest{Of: cloudmap.TypeHTTP}),
	"CreatePrivateDnsNamespace": does(writes, (*Server).createNamespace, cloudmap.CreateNamespaceRequest{Of: cloudmap.TypeDNSPrivate}),
	"CreatePublicDnsNamespace":  does(writes, (*Server).createNamespace, cloudmap.CreateNamespaceRequest{Of: cloudmap.TypeDNSPublic}),
	"UpdateHttpNamespace":       does(writes, (*Server).updateNamespace, cloudmap.UpdateNamespaceRequest{Of: cloudmap.TypeHTTP}),
	"UpdatePrivateDnsNamespace": does(writes, (*Server).updateNamespace, cloudmap.UpdateNamespaceRequest{Of: cloudmap.TypeDNSPrivate}),
	"UpdatePublicDnsNamespace":  does(writes, (*Server).updateNamespace, cloudmap.UpdateNamespaceRequest{Of: cloudmap.TypeDNSPublic}),
	"GetNamespace":              does(reads, (*Server).getNamespace, cloudmap.IDRequest{}),
	"ListNamespaces":            does(reads, (*Server).listNamespaces, cloudmap.ListNamespacesRequest{}),
	"DeleteNamespace":           does(writes, (*Server).deleteNamespace, cloudmap.IDRequest{}),

	"CreateService":           does(writes, (*Server).createService, cloudmap.CreateServiceRequest{}),
	"UpdateService":           does(writes, (*Server).updateService, cloudmap.UpdateServiceRequest{}),
	"GetService":              does(reads, (*Server).getService, cloudmap.IDRequest{}),
	"ListServices":            does(reads, (*Server).listServices, cloudmap.ListServicesRequest{}),
	"DeleteService":           does(writes, (*Server).deleteService, cloudmap.IDRequest{}),
	"GetServiceAttributes":    does(reads, (*Server).getServiceAttributes, cloudmap.ServiceIDRequest{}),
	"UpdateServiceAttributes": does(writes, (*Server).updateServiceAttributes, cloudmap.UpdateServiceAttributesRequest{}),
	"DeleteServiceAttributes": does(writes, (*Server).deleteServiceAttributes, cloudmap.DeleteServiceAttributesRequest{}),

	"RegisterInstance":                 does(writes, (*Server).registerInstance, cloudmap.RegisterInstanceRequest{}),
	"DeregisterInstance":               does(writes, (*Server).deregisterInstance, cloudmap.InstanceRequest{}),
	"GetInstance":                      does(reads, (*Server).getInstance, cloudmap.InstanceRequest{}),
	"ListInstances":                    does(reads, (*Server).listInstances, cloudmap.ListInstancesRequest{}),
	"GetInstancesHealthStatus":         does(reads, (*Server).instancesHealth, cloudmap.InstancesHealthRequest{}),
	"UpdateInstanceCustomHealthStatus": does(writes, (*Server).setHealth, cloudmap.UpdateHealthRequest{}),
	"DiscoverInstances":                does(reads, (*Server).discoverInstances, cloudmap.DiscoverInstancesRequest{}),
	"DiscoverInstancesRevision":        does(reads, (*Server).discoverRevision, cloudmap.RevisionRequest{}),

	"GetOperation":        does(reads, (*Server).getOperation, cloudmap.GetOperationRequest{}),
	"ListOperations":      does(reads, (*Server).listOperations, cloudmap.ListOperationsRequest{}),
	"TagResource":         does(writes, (*Server).tagResource, cloudmap.TagResourceRequest{}),
	"UntagResource":       does(writes, (*Server).untagResource, cloudmap.UntagResourceRequest{}),
	"ListTagsForResource": does(reads, (*Server).listTags, cloudmap.ListTagsRequest{}),
}

// Operations are the names of the API's operations, sorted.
func Operations() []string { return slices.Sorted(maps.Keys(operations)) }

// decode reads a request's body. Members that this server does not know are
// ignored, as AWS does.
func (o operation) decode(body []byte) (request, error) {
	in := o.empty()
	if len(bytes.TrimSpace(body)) > 0 {
		if err := json.Unmarshal(body, in); err != nil {
			return nil, cloudmap.Serialization("The request is not as the API describes it: %v", err)
		}
	}
	var p cloudmap.Problems
	in.Check(&p)
	return in, p.Err()
}

package cloudmap

import (
	"math"
	"strconv"
	"time"
)

// TargetPrefix stands before the operation's name in X-Amz-Target.
const TargetPrefix = "Route53AutoNaming_v20170314"

// Quotas that AWS doesn't adjust, and limits of the model.
const (
	MaxTags                = 50
	MaxServiceAttributes   = 30
	MaxCustomAttributes    = 30
	MaxAttributeCharacters = 5000
	MaxServiceInstances    = 1000
)

// Types of a namespace.
const (
	TypeHTTP       = "HTTP"
	TypeDNSPrivate = "DNS_PRIVATE"
	TypeDNSPublic  = "DNS_PUBLIC"
	TypeDNSHTTP    = "DNS_HTTP" // of a service that DNS finds too
)

// Time is a moment in epoch seconds with milliseconds, as awsJson1_1 has it.
type Time time.Time

// MarshalJSON writes a JSON number.
func (t Time) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(time.Time(t).UnixMilli())/1000, 'f', 3, 64), nil
}

// Tag is one of a resource.
type Tag struct {
	Key   string
	Value *string
}

// SOA holds the only value of a zone that can be set.
type SOA struct{ TTL *int64 }

// DNSProperties are those of a zone.
type DNSProperties struct {
	HostedZoneID string `json:"HostedZoneId,omitempty"`
	SOA          *SOA   `json:",omitempty"`
}

// NamespaceProperties are those of a namespace, in requests and answers.
type NamespaceProperties struct {
	DNSProperties  *DNSProperties  `json:"DnsProperties,omitempty"`
	HTTPProperties *HTTPProperties `json:"HttpProperties,omitempty"`
}

// TTL is the one that can be set; 0 if it was not.
func (n *NamespaceProperties) TTL() int64 {
	if n == nil || n.DNSProperties == nil || n.DNSProperties.SOA == nil || n.DNSProperties.SOA.TTL == nil {
		return 0
	}
	return *n.DNSProperties.SOA.TTL
}

// HTTPProperties hold the name that DiscoverInstances asks for.
type HTTPProperties struct {
	HTTPName string `json:"HttpName"`
}

// Namespace is one in an answer.
type Namespace struct {
	ID               string `json:"Id"`
	ARN              string `json:"Arn"`
	ResourceOwner    string
	Name             string
	Type             string
	Description      string `json:",omitempty"`
	ServiceCount     *int   `json:",omitempty"`
	Properties       NamespaceProperties
	CreateDate       Time
	CreatorRequestID string `json:"CreatorRequestId,omitempty"`
}

// CreateNamespaceRequest is that of the three Create*Namespace operations. Of
// is the type that the operation makes; it is not a member.
type CreateNamespaceRequest struct {
	Of               string `json:"-"`
	Name             string
	CreatorRequestID string `json:"CreatorRequestId"`
	Description      string
	VPC              string `json:"Vpc"`
	Tags             []Tag
	Properties       *NamespaceProperties
}

// Check lists what is wrong with r.
func (r *CreateNamespaceRequest) Check(p *Problems) {
	names := map[string]rule{TypeHTTP: httpName, TypeDNSPrivate: privateName, TypeDNSPublic: publicName}
	p.required("name", r.Name, names[r.Of])
	p.optional("creatorRequestId", r.CreatorRequestID, resourceID)
	p.optional("description", r.Description, description)
	if r.Of == TypeDNSPrivate {
		p.required("vpc", r.VPC, resourceID)
	}
	if r.Of != TypeHTTP {
		checkZone(p, "properties", r.Properties)
	}
	checkTags(p, r.Tags)
}

func checkZone(p *Problems, at string, n *NamespaceProperties) {
	if n == nil {
		return
	}
	if n.DNSProperties == nil || n.DNSProperties.SOA == nil || n.DNSProperties.SOA.TTL == nil {
		p.null(at + ".dnsProperties.sOA.tTL")
		return
	}
	p.within(at+".dnsProperties.sOA.tTL", n.DNSProperties.SOA.TTL, 0, math.MaxInt32)
}

// NamespaceChange is what an Update*Namespace sets; what is nil stays.
type NamespaceChange struct {
	Description *string
	Properties  *NamespaceProperties
}

// UpdateNamespaceRequest is that of the three Update*Namespace operations. Of
// is the type that the operation is for; it is not a member.
type UpdateNamespaceRequest struct {
	Of               string `json:"-"`
	ID               string `json:"Id"`
	UpdaterRequestID string `json:"UpdaterRequestId"`
	Namespace        *NamespaceChange
}

// Check lists what is wrong with r.
func (r *UpdateNamespaceRequest) Check(p *Problems) {
	p.required("id", r.ID, idOrARN)
	p.optional("updaterRequestId", r.UpdaterRequestID, resourceID)
	switch {
	case r.Namespace == nil:
		p.null("namespace")
		return
	case r.Of == TypeHTTP && r.Namespace.Description == nil:
		p.null("namespace.description")
	}
	if r.Namespace.Description != nil {
		p.optional("namespace.description", *r.Namespace.Description, description)
	}
	if r.Of != TypeHTTP {
		checkZone(p, "namespace.properties", r.Namespace.Properties)
	}
}

// IDRequest is that of GetNamespace, DeleteNamespace, GetService and
// DeleteService.
type IDRequest struct {
	ID string `json:"Id"`
}

// Check lists what is wrong with r.
func (r *IDRequest) Check(p *Problems) { p.required("id", r.ID, idOrARN) }

// GetNamespaceResponse answers GetNamespace.
type GetNamespaceResponse struct{ Namespace Namespace }

// OperationStarted answers every asynchronous operation.
type OperationStarted struct {
	OperationID string `json:"OperationId"`
}

// ListNamespacesRequest is that of ListNamespaces.
type ListNamespacesRequest struct {
	Page
	Filters []Filter
}

// Check lists what is wrong with r.
func (r *ListNamespacesRequest) Check(p *Problems) {
	r.Page.check(p)
	both := []string{"EQ", "BEGINS_WITH"}
	checkFilters(p, r.Filters, conditions{"TYPE": both, "NAME": both, "HTTP_NAME": both, "RESOURCE_OWNER": {"EQ"}})
	checkOwners(p, r.Filters)
}

// ListNamespacesResponse answers ListNamespaces.
type ListNamespacesResponse struct {
	Namespaces []Namespace
	NextToken  string `json:",omitempty"`
}

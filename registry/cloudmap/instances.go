package cloudmap

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Attributes of an instance that have a meaning.
const (
	AttrIPv4       = "AWS_INSTANCE_IPV4"
	AttrIPv6       = "AWS_INSTANCE_IPV6"
	AttrPort       = "AWS_INSTANCE_PORT"
	AttrCNAME      = "AWS_INSTANCE_CNAME"
	AttrAlias      = "AWS_ALIAS_DNS_NAME"
	AttrEC2        = "AWS_EC2_INSTANCE_ID"
	AttrInitHealth = "AWS_INIT_HEALTH_STATUS"
	// AttrLease grants a lease, in seconds. It is an extension: AWS keeps it
	// like any other attribute and gives it no meaning.
	AttrLease = "PATCHBAY_LEASE_SECONDS"
)

// MaxLeaseSeconds is the longest lease, a day.
const MaxLeaseSeconds = 86400

// Health of an instance, and what DiscoverInstances can ask for besides.
const (
	Healthy          = "HEALTHY"
	Unhealthy        = "UNHEALTHY"
	UnknownHealth    = "UNKNOWN"
	AllHealth        = "ALL"
	HealthyOrElseAll = "HEALTHY_OR_ELSE_ALL"
)

// RegisterInstanceRequest is that of RegisterInstance.
type RegisterInstanceRequest struct {
	ServiceID        string `json:"ServiceId"`
	InstanceID       string `json:"InstanceId"`
	CreatorRequestID string `json:"CreatorRequestId"`
	Attributes       map[string]string
}

// Check lists what is wrong with r.
func (r *RegisterInstanceRequest) Check(p *Problems) {
	p.required("serviceId", r.ServiceID, idOrARN)
	p.required("instanceId", r.InstanceID, instanceID)
	p.optional("creatorRequestId", r.CreatorRequestID, resourceID)
	if r.Attributes == nil {
		p.null("attributes")
		return
	}
	p.pairs("attributes", r.Attributes, attrKey, attrValue)
	custom, total := 0, 0
	for k, v := range r.Attributes {
		total += utf8.RuneCountInString(k) + utf8.RuneCountInString(v)
		if !strings.HasPrefix(k, "AWS_") {
			custom++
		}
	}
	if custom > MaxCustomAttributes {
		p.Add("the instance has %d custom attributes; at most %d are allowed", custom, MaxCustomAttributes)
	}
	if total > MaxAttributeCharacters {
		p.Add("the attributes have %d characters in all keys and values together; at most %d are allowed", total, MaxAttributeCharacters)
	}
	r.checkMeaning(p)
}

// checkMeaning looks at the attributes that have one, apart from what the
// service demands.
func (r *RegisterInstanceRequest) checkMeaning(p *Problems) {
	if v, ok := r.Attributes[AttrIPv4]; ok {
		if a, err := netip.ParseAddr(v); err != nil || !a.Is4() {
			p.fails("attributes."+AttrIPv4, v, "Member must be an IPv4 address")
		}
	}
	if v, ok := r.Attributes[AttrIPv6]; ok {
		if a, err := netip.ParseAddr(v); err != nil || !a.Is6() || a.Zone() != "" {
			p.fails("attributes."+AttrIPv6, v, "Member must be an IPv6 address without a zone")
		}
	}
	if v, ok := r.Attributes[AttrPort]; ok {
		if n, err := strconv.ParseUint(v, 10, 16); err != nil || n == 0 {
			p.fails("attributes."+AttrPort, v, "Member must be a port, 1 to 65535")
		}
	}
	if v, ok := r.Attributes[AttrInitHealth]; ok {
		p.enum("attributes."+AttrInitHealth, v, Healthy, Unhealthy)
	}
	if v, ok := r.Attributes[AttrLease]; ok {
		if n, err := strconv.Atoi(v); err != nil || n < 1 || n > MaxLeaseSeconds {
			p.fails("attributes."+AttrLease, v, fmt.Sprintf("Member must be a whole number of seconds, 1 to %d", MaxLeaseSeconds))
		}
	}
}

// CheckFor lists what is wrong with registering r with a service that has
// these records, a Route 53 health check (or not), in a namespace of this type.
func (r *RegisterInstanceRequest) CheckFor(p *Problems, d *DNSConfig, checked bool, namespaceType string) {
	has := func(k string) bool { return r.Attributes[k] != "" }
	types := d.Types()
	need := func(k, why string) {
		if !has(k) {
			p.Add("attribute %s is missing: the service has %s", k, why)
		}
	}
	if has(AttrEC2) {
		if namespaceType != TypeHTTP {
			p.Add("attribute %s is for HTTP namespaces only", AttrEC2)
		}
		p.Add("attribute %s can't be resolved: this registry has no EC2 behind it; register %s instead", AttrEC2, AttrIPv4)
	}
	if has(AttrAlias) {
		if !strings.HasPrefix(types, "A") || d.RoutingPolicy != "WEIGHTED" {
			p.Add("attribute %s needs a service with A or AAAA records and RoutingPolicy WEIGHTED", AttrAlias)
		}
		for k := range r.Attributes {
			if strings.HasPrefix(k, "AWS_INSTANCE_") {
				p.Add("attribute %s can't be combined with AWS_INSTANCE attributes", AttrAlias)
				break
			}
		}
		return
	}
	switch types {
	case "A":
		need(AttrIPv4, "an A record")
	case "AAAA":
		need(AttrIPv6, "an AAAA record")
	case "A,AAAA":
		need(AttrIPv4, "an A record")
		need(AttrIPv6, "an AAAA record")
	case "CNAME":
		need(AttrCNAME, "a CNAME record")
	case "SRV":
		need(AttrPort, "an SRV record")
		if !has(AttrIPv4) && !has(AttrIPv6) {
			p.Add("attribute %s or %s is missing: the service has an SRV record", AttrIPv4, AttrIPv6)
		}
	}
	if checked && types != "SRV" {
		need(AttrPort, "a Route 53 health check")
	}
}

// InstanceRequest is that of DeregisterInstance and GetInstance.
type InstanceRequest struct {
	ServiceID  string `json:"ServiceId"`
	InstanceID string `json:"InstanceId"`
}

// Check lists what is wrong with r.
func (r *InstanceRequest) Check(p *Problems) {
	p.required("serviceId", r.ServiceID, idOrARN)
	p.required("instanceId", r.InstanceID, resourceID)
}

// UpdateHealthRequest is that of UpdateInstanceCustomHealthStatus.
type UpdateHealthRequest struct {
	ServiceID  string `json:"ServiceId"`
	InstanceID string `json:"InstanceId"`
	Status     string
}

// Check lists what is wrong with r.
func (r *UpdateHealthRequest) Check(p *Problems) {
	p.required("serviceId", r.ServiceID, idOrARN)
	p.required("instanceId", r.InstanceID, resourceID)
	p.enum("status", r.Status, Healthy, Unhealthy)
}

// Instance is one in an answer.
type Instance struct {
	ID               string `json:"Id"`
	CreatorRequestID string `json:"CreatorRequestId,omitempty"`
	Attributes       map[string]string
	CreatedByAccount string
}

// GetInstanceResponse answers GetInstance.
type GetInstanceResponse struct {
	ResourceOwner string
	Instance      Instance
}

// ListInstancesRequest is that of ListInstances.
type ListInstancesRequest struct {
	Page
	ServiceID string `json:"ServiceId"`
}

// Check lists what is wrong with r.
func (r *ListInstancesRequest) Check(p *Problems) {
	p.required("serviceId", r.ServiceID, idOrARN)
	r.Page.check(p)
}

// ListInstancesResponse answers ListInstances.
type ListInstancesResponse struct {
	ResourceOwner string
	Instances     []Instance
	NextToken     string `json:",omitempty"`
}

// InstancesHealthRequest is that of GetInstancesHealthStatus.
type InstancesHealthRequest struct {
	Page
	ServiceID string `json:"ServiceId"`
	Instances []string
}

// Check lists what is wrong with r.
func (r *InstancesHealthRequest) Check(p *Problems) {
	p.required("serviceId", r.ServiceID, idOrARN)
	r.Page.check(p)
	if r.Instances != nil && len(r.Instances) == 0 {
		p.size("instances", 0, 1, 0)
	}
	for i, id := range r.Instances {
		p.required(fmt.Sprintf("instances.%d.member", i+1), id, resourceID)
	}
}

// InstancesHealthResponse answers GetInstancesHealthStatus.
type InstancesHealthResponse struct {
	Status    map[string]string
	NextToken string `json:",omitempty"`
}

// DiscoverInstancesRequest is that of DiscoverInstances.
type DiscoverInstancesRequest struct {
	NamespaceName      string
	ServiceName        string
	MaxResults         *int64
	QueryParameters    map[string]string
	OptionalParameters map[string]string
	HealthStatus       string
	OwnerAccount       string
}

// Limit is how many instances are returned: MaxResults, or 100.
func (r *DiscoverInstancesRequest) Limit() int { return Page{MaxResults: r.MaxResults}.Limit() }

// Check lists what is wrong with r.
func (r *DiscoverInstancesRequest) Check(p *Problems) {
	p.required("namespaceName", r.NamespaceName, anyName)
	p.required("serviceName", r.ServiceName, serviceName)
	p.within("maxResults", r.MaxResults, 1, 1000)
	p.pairs("queryParameters", r.QueryParameters, attrKey, attrValue)
	p.pairs("optionalParameters", r.OptionalParameters, attrKey, attrValue)
	if r.HealthStatus != "" {
		p.enum("healthStatus", r.HealthStatus, Healthy, Unhealthy, AllHealth, HealthyOrElseAll)
	}
	p.optional("ownerAccount", r.OwnerAccount, accountID)
}

// HTTPInstance is an instance in the answer of DiscoverInstances.
type HTTPInstance struct {
	InstanceID    string `json:"InstanceId"`
	NamespaceName string
	ServiceName   string
	HealthStatus  string
	Attributes    map[string]string
}

// DiscoverInstancesResponse answers DiscoverInstances.
type DiscoverInstancesResponse struct {
	Instances         []HTTPInstance
	InstancesRevision int64
}

// RevisionRequest is that of DiscoverInstancesRevision.
type RevisionRequest struct {
	NamespaceName string
	ServiceName   string
	OwnerAccount  string
}

// Check lists what is wrong with r.
func (r *RevisionRequest) Check(p *Problems) {
	p.required("namespaceName", r.NamespaceName, anyName)
	p.required("serviceName", r.ServiceName, serviceName)
	p.optional("ownerAccount", r.OwnerAccount, accountID)
}

// RevisionResponse answers DiscoverInstancesRevision.
type RevisionResponse struct{ InstancesRevision int64 }

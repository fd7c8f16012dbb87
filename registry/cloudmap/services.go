package cloudmap

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// DNSRecord is a record that a service's instances would get.
type DNSRecord struct {
	Type string
	TTL  *int64
}

// DNSConfig are the records of a service.
type DNSConfig struct {
	NamespaceID   string      `json:"NamespaceId,omitempty"`
	RoutingPolicy string      `json:",omitempty"`
	DNSRecords    []DNSRecord `json:"DnsRecords"`
}

// Types is the sorted list of the record types, comma-separated.
func (d *DNSConfig) Types() string {
	if d == nil {
		return ""
	}
	var t []string
	for _, r := range d.DNSRecords {
		t = append(t, r.Type)
	}
	slices.Sort(t)
	return strings.Join(t, ",")
}

// Complete fills in AWS's defaults.
func (d *DNSConfig) Complete() {
	if d.RoutingPolicy == "" {
		d.RoutingPolicy = "MULTIVALUE"
	}
}

// Changed is d with the TTLs of an update, which can change nothing else; nil
// if the update leaves the records out.
func (d *DNSConfig) Changed(update *DNSConfig) *DNSConfig {
	if update == nil {
		return nil
	}
	c := *d
	c.DNSRecords = update.DNSRecords
	return &c
}

// HealthCheckConfig is a check by Route 53.
type HealthCheckConfig struct {
	Type             string
	ResourcePath     string `json:",omitempty"`
	FailureThreshold *int64 `json:",omitempty"`
}

// Complete fills in AWS's defaults. A nil one stays so.
func (h *HealthCheckConfig) Complete() {
	if h == nil {
		return
	}
	if h.FailureThreshold == nil {
		one := int64(1)
		h.FailureThreshold = &one
	}
	if h.ResourcePath == "" && h.Type != "TCP" {
		h.ResourcePath = "/"
	}
}

// HealthCheckCustomConfig is a check by the owner of the instances.
type HealthCheckCustomConfig struct {
	FailureThreshold *int64 `json:",omitempty"`
}

// Complete sets the threshold, which AWS always sets to 1. A nil one stays so.
func (h *HealthCheckCustomConfig) Complete() {
	if h != nil {
		one := int64(1)
		h.FailureThreshold = &one
	}
}

// Service is one in an answer.
type Service struct {
	ID                      string `json:"Id"`
	ARN                     string `json:"Arn"`
	ResourceOwner           string
	Name                    string
	NamespaceID             string                   `json:"NamespaceId,omitempty"`
	Description             string                   `json:",omitempty"`
	InstanceCount           int                      `json:"InstanceCount"`
	DNSConfig               *DNSConfig               `json:"DnsConfig,omitempty"`
	Type                    string                   `json:",omitempty"`
	HealthCheckConfig       *HealthCheckConfig       `json:",omitempty"`
	HealthCheckCustomConfig *HealthCheckCustomConfig `json:",omitempty"`
	CreateDate              Time
	CreatorRequestID        string `json:"CreatorRequestId,omitempty"`
	CreatedByAccount        string
}

// CreateServiceRequest is that of CreateService.
type CreateServiceRequest struct {
	Name                    string
	NamespaceID             string `json:"NamespaceId"`
	CreatorRequestID        string `json:"CreatorRequestId"`
	Description             string
	DNSConfig               *DNSConfig `json:"DnsConfig"`
	HealthCheckConfig       *HealthCheckConfig
	HealthCheckCustomConfig *HealthCheckCustomConfig
	Tags                    []Tag
	Type                    string
}

// Namespace is the id or ARN of the namespace, wherever the request has it.
func (r *CreateServiceRequest) Namespace() string {
	if r.NamespaceID == "" && r.DNSConfig != nil {
		return r.DNSConfig.NamespaceID
	}
	return r.NamespaceID
}

// Check lists what is wrong with r.
func (r *CreateServiceRequest) Check(p *Problems) {
	p.required("name", r.Name, serviceName)
	p.required("namespaceId", r.Namespace(), idOrARN)
	p.optional("creatorRequestId", r.CreatorRequestID, resourceID)
	p.optional("description", r.Description, description)
	checkDNS(p, "dnsConfig", r.DNSConfig)
	checkHealth(p, "healthCheckConfig", r.HealthCheckConfig)
	checkTags(p, r.Tags)
	if r.Type != "" {
		p.enum("type", r.Type, TypeHTTP)
		if r.DNSConfig != nil {
			p.Add("a service of type HTTP can't have a DnsConfig")
		}
	}
	if d := r.DNSConfig; d != nil {
		p.optional("dnsConfig.namespaceId", d.NamespaceID, resourceID)
		if d.NamespaceID != "" && d.NamespaceID != r.Namespace() {
			p.fails("dnsConfig.namespaceId", d.NamespaceID, "Member must be equal to namespaceId")
		}
		if d.Types() == "CNAME" && d.RoutingPolicy != "WEIGHTED" {
			p.Add("a CNAME record needs the RoutingPolicy WEIGHTED")
		}
		if strings.Contains(d.Types(), "CNAME") && r.HealthCheckConfig != nil {
			p.Add("a service with a CNAME record can't have a HealthCheckConfig")
		}
	}
	if r.HealthCheckConfig != nil && r.HealthCheckCustomConfig != nil {
		p.Add("a service can have a HealthCheckConfig or a HealthCheckCustomConfig, not both")
	}
	if c := r.HealthCheckCustomConfig; c != nil {
		p.within("healthCheckCustomConfig.failureThreshold", c.FailureThreshold, 1, 10)
	}
}

// CheckFor lists what is wrong with r in a namespace of this type.
func (r *CreateServiceRequest) CheckFor(p *Problems, namespaceType string) {
	if r.DNSConfig != nil && namespaceType == TypeHTTP {
		p.Add("a service in a namespace of type HTTP can't have a DnsConfig")
	}
	if r.HealthCheckConfig != nil && namespaceType == TypeDNSPrivate {
		p.Add("a service in a private DNS namespace can't have a HealthCheckConfig: Route 53 could not reach it; a HealthCheckCustomConfig can be set")
	}
}

func checkDNS(p *Problems, at string, d *DNSConfig) {
	if d == nil {
		return
	}
	if d.RoutingPolicy != "" {
		p.enum(at+".routingPolicy", d.RoutingPolicy, "MULTIVALUE", "WEIGHTED")
	}
	if d.DNSRecords == nil {
		p.null(at + ".dnsRecords")
		return
	}
	known := true
	for i, r := range d.DNSRecords {
		at := fmt.Sprintf("%s.dnsRecords.%d.member", at, i+1)
		n := len(p.list)
		p.enum(at+".type", r.Type, "SRV", "A", "AAAA", "CNAME")
		known = known && len(p.list) == n
		if r.TTL == nil {
			p.null(at + ".tTL")
		}
		p.within(at+".tTL", r.TTL, 0, math.MaxInt32)
	}
	if t := d.Types(); known && !slices.Contains([]string{"A", "AAAA", "A,AAAA", "SRV", "CNAME"}, t) {
		p.fails(at+".dnsRecords", t, "the records must be A, AAAA, A and AAAA, SRV, or CNAME")
	}
}

func checkHealth(p *Problems, at string, h *HealthCheckConfig) {
	if h == nil {
		return
	}
	p.enum(at+".type", h.Type, "HTTP", "HTTPS", "TCP")
	p.optional(at+".resourcePath", h.ResourcePath, resourcePath)
	p.within(at+".failureThreshold", h.FailureThreshold, 1, 10)
	if h.Type == "TCP" && h.ResourcePath != "" {
		p.fails(at+".resourcePath", h.ResourcePath, "Member must be absent for the type TCP")
	}
}

// CreateServiceResponse answers CreateService and GetService.
type CreateServiceResponse struct{ Service Service }

// ServiceChange is what UpdateService sets.
type ServiceChange struct {
	Description       *string
	DNSConfig         *DNSConfig `json:"DnsConfig"`
	HealthCheckConfig *HealthCheckConfig
}

// UpdateServiceRequest is that of UpdateService.
type UpdateServiceRequest struct {
	ID      string `json:"Id"`
	Service *ServiceChange
}

// Check lists what is wrong with r.
func (r *UpdateServiceRequest) Check(p *Problems) {
	p.required("id", r.ID, idOrARN)
	if r.Service == nil {
		p.null("service")
		return
	}
	if r.Service.Description != nil {
		p.optional("service.description", *r.Service.Description, description)
	}
	checkDNS(p, "service.dnsConfig", r.Service.DNSConfig)
	checkHealth(p, "service.healthCheckConfig", r.Service.HealthCheckConfig)
}

// CheckFor lists what is wrong with changing a service that has these records,
// a custom health check (or not), in a namespace of this type.
func (r *UpdateServiceRequest) CheckFor(p *Problems, d *DNSConfig, custom bool, namespaceType string) {
	dns, check := r.Service.DNSConfig, r.Service.HealthCheckConfig
	if namespaceType == TypeHTTP {
		if dns != nil || check != nil {
			p.Add("of a service in a namespace of type HTTP only the Description can be changed")
		}
		return
	}
	if dns != nil && dns.Types() != d.Types() {
		p.Add("the types of DNS records can't be changed from %q to %q: delete the service and create it again", d.Types(), dns.Types())
	}
	if check != nil && custom {
		p.Add("a service with a HealthCheckCustomConfig can't get a HealthCheckConfig")
	}
	if check != nil && namespaceType == TypeDNSPrivate {
		p.Add("a service in a private DNS namespace can't have a HealthCheckConfig")
	}
}

// ListServicesRequest is that of ListServices.
type ListServicesRequest struct {
	Page
	Filters []Filter
}

// Check lists what is wrong with r.
func (r *ListServicesRequest) Check(p *Problems) {
	r.Page.check(p)
	checkFilters(p, r.Filters, conditions{"NAMESPACE_ID": {"EQ"}, "RESOURCE_OWNER": {"EQ"}})
	checkOwners(p, r.Filters)
}

// ListServicesResponse answers ListServices.
type ListServicesResponse struct {
	Services  []Service
	NextToken string `json:",omitempty"`
}

// ServiceIDRequest is that of GetServiceAttributes.
type ServiceIDRequest struct {
	ServiceID string `json:"ServiceId"`
}

// Check lists what is wrong with r.
func (r *ServiceIDRequest) Check(p *Problems) { p.required("serviceId", r.ServiceID, idOrARN) }

// ServiceAttributes are those of a service.
type ServiceAttributes struct {
	ServiceARN    string `json:"ServiceArn"`
	ResourceOwner string
	Attributes    map[string]string
}

// GetServiceAttributesResponse answers GetServiceAttributes.
type GetServiceAttributesResponse struct{ ServiceAttributes ServiceAttributes }

// UpdateServiceAttributesRequest is that of UpdateServiceAttributes.
type UpdateServiceAttributesRequest struct {
	ServiceID  string `json:"ServiceId"`
	Attributes map[string]string
}

// Check lists what is wrong with r.
func (r *UpdateServiceAttributesRequest) Check(p *Problems) {
	p.required("serviceId", r.ServiceID, idOrARN)
	if r.Attributes == nil {
		p.null("attributes")
		return
	}
	p.size("attributes", len(r.Attributes), 1, MaxServiceAttributes)
	p.pairs("attributes", r.Attributes, svcAttrKey, svcAttrValue)
}

// DeleteServiceAttributesRequest is that of DeleteServiceAttributes.
type DeleteServiceAttributesRequest struct {
	ServiceID  string `json:"ServiceId"`
	Attributes []string
}

// Check lists what is wrong with r.
func (r *DeleteServiceAttributesRequest) Check(p *Problems) {
	p.required("serviceId", r.ServiceID, idOrARN)
	if r.Attributes == nil {
		p.null("attributes")
		return
	}
	p.size("attributes", len(r.Attributes), 1, MaxServiceAttributes)
	for i, k := range r.Attributes {
		p.required(fmt.Sprintf("attributes.%d.member", i+1), k, svcAttrKey)
	}
}

package bootstrap

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"patchbay/mesh"
)

// The keys of a node's metadata in the form of AWS's own agent that mean
// something here.
const (
	awsListeners    = "aws.ecs.serviceconnect.ListenerPortMapping"
	awsContainerIPs = "aws.ecs.serviceconnect.ClusterIPMapping"
	awsDiscovery    = "aws.ecs.serviceconnect.ServiceDiscovery"
	awsPlatform     = "aws.appmesh.platformInfo"
)

// LocalCluster is the cluster of an Envoy's own kind in the bootstrap, and its
// endpoints' name in the one that AWS's agent writes. They are asked for before
// anything else.
const LocalCluster = "local_cluster"

// EgressListener is the listener's name for redirected connections, and its key
// in ListenerPortMapping.
const EgressListener = "egress"

// AWS is what a node in the form of AWS's own agent says. None of it is
// identity.
type AWS struct {
	Listeners    map[string]uint16     // ListenerPortMapping: the port on which each must listen
	ContainerIPs map[string]netip.Addr // ClusterIPMapping, by container
	Namespace    string                // ServiceDiscovery.NamespaceName; empty: not said
	Task         string                // the id at the end of ecsTaskArn; empty: not said
	IPv6, IPv4   bool                  // supportedIPFamilies; without it, IPv4 alone
}

// IsAWS reports whether a node is in the form of AWS's agent, and not in our
// own.
func IsAWS(n *corev3.Node) bool {
	if n.GetMetadata().GetFields()[metadataKey] != nil {
		return false
	}
	if strings.HasPrefix(n.GetId(), "arn:") {
		return true
	}
	for key := range n.GetMetadata().GetFields() {
		if strings.HasPrefix(key, "aws.ecs.serviceconnect.") {
			return true
		}
	}
	return false
}

// DecodeAWS reads the metadata of a node in the form of AWS's agent. What means
// nothing here is ignored; what does is read strictly. The error lists every
// problem: where, what, and what is allowed.
func DecodeAWS(s *structpb.Struct) (AWS, error) {
	c := &awsChecker{fields: s.GetFields()}
	a := AWS{Listeners: map[string]uint16{}, ContainerIPs: map[string]netip.Addr{}, IPv4: true}
	c.listeners(&a)
	for _, name := range c.keys(awsContainerIPs, false) {
		v := c.object(awsContainerIPs)[name]
		ip, err := netip.ParseAddr(v.GetStringValue())
		if err != nil || ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "" {
			c.bad(awsContainerIPs, "%q: %s; allowed: the IP address of a container", name, show(v))
			continue
		}
		a.ContainerIPs[name] = ip
	}
	c.discovery(&a)
	c.platform(&a)
	return a, errors.Join(c.errs...)
}

type awsChecker struct {
	fields map[string]*structpb.Value
	errs   []error
}

func (c *awsChecker) bad(key, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("node metadata %q: "+format, append([]any{key}, args...)...))
}

func (c *awsChecker) object(key string) map[string]*structpb.Value {
	return c.fields[key].GetStructValue().GetFields()
}

// keys are those of an object of the metadata, sorted.
func (c *awsChecker) keys(key string, required bool) []string {
	v := c.fields[key]
	switch {
	case v == nil && required:
		c.bad(key, "is missing; allowed: an object")
	case v != nil && v.GetStructValue() == nil:
		c.bad(key, "%s; allowed: an object", show(v))
	case len(c.object(key)) > maxPorts+1:
		c.bad(key, "has %d entries; allowed: %d", len(c.object(key)), maxPorts+1)
	default:
		return slices.Sorted(maps.Keys(c.object(key)))
	}
	return nil
}

func (c *awsChecker) listeners(a *AWS) {
	taken := map[uint16]string{}
	for _, name := range c.keys(awsListeners, true) {
		v := c.object(awsListeners)[name]
		n, number := v.GetKind().(*structpb.Value_NumberValue)
		if !number || n.NumberValue != math.Trunc(n.NumberValue) || n.NumberValue < 1 || n.NumberValue > math.MaxUint16 {
			c.bad(awsListeners, "%q: %s; allowed: a number of 1 to 65535", name, show(v))
			continue
		}
		port := uint16(n.NumberValue)
		if other := taken[port]; other != "" {
			c.bad(awsListeners, "%q: %d is the port of %q too; allowed: each once", name, port, other)
		}
		taken[port], a.Listeners[name] = name, port
	}
}

func (c *awsChecker) discovery(a *AWS) {
	for _, key := range c.keys(awsDiscovery, false) {
		v := c.object(awsDiscovery)[key]
		s, text := v.GetKind().(*structpb.Value_StringValue)
		switch {
		case key != "NamespaceName" && key != "NamespaceArn":
			// what a newer agent adds
		case !text:
			c.bad(awsDiscovery, "%s: %s; allowed: a string", key, show(v))
		case key == "NamespaceName":
			a.Namespace = s.StringValue
		case s.StringValue != "" && (!strings.HasPrefix(s.StringValue, "arn:") || !strings.Contains(s.StringValue, ":namespace/")):
			c.bad(awsDiscovery, "NamespaceArn: %s; allowed: the ARN of a namespace", show(v))
		}
	}
}

func (c *awsChecker) platform(a *AWS) {
	c.keys(awsPlatform, false)
	p := c.object(awsPlatform)
	switch v := p["supportedIPFamilies"]; {
	case v == nil || v.GetStringValue() == "IPv4_ONLY":
	case v.GetStringValue() == "ALL":
		a.IPv6 = true
	case v.GetStringValue() == "IPv6_ONLY":
		a.IPv6, a.IPv4 = true, false
	default:
		c.bad(awsPlatform, "supportedIPFamilies: %s; allowed: ALL, IPv4_ONLY, IPv6_ONLY", show(v))
	}
	arn := p["ecsPlatformInfo"].GetStructValue().GetFields()["ecsTaskArn"].GetStringValue()
	if task := arn[strings.LastIndexByte(arn, '/')+1:]; strings.HasPrefix(arn, "arn:") && mesh.ValidTask(task) {
		a.Task = task // for people; where it is not one, the stream has a number
	}
}

// show is a value, or as much of it as tells which it is.
func show(v *structpb.Value) string {
	b, err := v.MarshalJSON()
	if err != nil {
		return "unreadable"
	}
	if len(b) > 80 {
		return strings.ToValidUTF8(string(b[:80]), "") + "…"
	}
	return string(b)
}

// Placed is a node in the form of AWS's agent as its control plane places it.
type Placed struct {
	EgressPort uint16                // of the listener for redirected connections; 0: the task has none
	Apps       map[string]netip.Addr // where the application of a port is, by the port's name; absent: 127.0.0.1
}

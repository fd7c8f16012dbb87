// Package elb stands in for Elastic Load Balancing: it describes target groups,
// listeners with their rules, and the health of targets.
//
// It owns what the operations mean and their Query protocol: forms in, XML out,
// in the version 2015-12-01 that the SDK speaks. It must not know patchbay. It
// answers the members that matter here, in pages of what the caller asks for.
// Start reading at [ELB.API].
package elb

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"github.com/google/uuid"

	"patchbay/internal/awsfake/wire"
)

const (
	version = "2015-12-01"
	// pageSize is less than AWS's 400, so that callers meet a second page.
	pageSize = 20
	space    = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"
)

// Group is a target group.
type Group struct {
	ARN         string   `xml:"TargetGroupArn"`
	Protocol    string   `xml:"Protocol"`
	HealthCheck string   `xml:"HealthCheckProtocol"`
	Balancers   []string `xml:"LoadBalancerArns>member"` // ARNs
	Targets     []Target `xml:"-"`
}

// Target is one that is registered.
type Target struct {
	ID     string `xml:"Target>Id"` // an IP address
	Port   int    `xml:"Target>Port"`
	State  string `xml:"TargetHealth>State"` // healthy, unhealthy, initial…
	Reason string `xml:"TargetHealth>Reason,omitempty"`
	Text   string `xml:"TargetHealth>Description,omitempty"`
}

// Action is where a listener or a rule sends requests.
type Action struct {
	Type  string `xml:"Type"`
	Group string `xml:"TargetGroupArn,omitempty"`
	// Shares are the target groups of one that forwards to several.
	Shares []string `xml:"ForwardConfig>TargetGroups>member>TargetGroupArn,omitempty"`
}

// Rule is one of a listener.
type Rule struct {
	ARN     string   `xml:"RuleArn"`
	Actions []Action `xml:"Actions>member"`
}

// Listener is one of a load balancer.
type Listener struct {
	ARN      string   `xml:"ListenerArn"`
	Balancer string   `xml:"LoadBalancerArn"`
	Protocol string   `xml:"Protocol"`
	Policy   string   `xml:"SslPolicy,omitempty"`
	Default  []Action `xml:"DefaultActions>member"`
	Rules    []Rule   `xml:"-"`
}

// ELB holds what one account has in a Region. It is safe for concurrent use.
type ELB struct {
	mu        sync.Mutex
	groups    []Group
	listeners []Listener
}

// Put makes a target group.
func (e *ELB) Put(g Group) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.groups = append(e.groups, g)
}

// Listen makes a listener.
func (e *ELB) Listen(l Listener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listeners = append(e.listeners, l)
}

// API is the service to be served.
func (e *ELB) API() wire.Service {
	return wire.Service{Signing: "elasticloadbalancing", Plain: e.serve, PlainName: "Describe"}
}

// answers are the results, each in the element of its operation.
type answers struct {
	Groups    []Group    `xml:"TargetGroups>member,omitempty"`
	Listeners []Listener `xml:"Listeners>member,omitempty"`
	Rules     []Rule     `xml:"Rules>member,omitempty"`
	Health    []Target   `xml:"TargetHealthDescriptions>member,omitempty"`
	Next      string     `xml:"NextMarker,omitempty"`
}

type failure struct {
	XMLName xml.Name `xml:"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/ ErrorResponse"`
	Type    string   `xml:"Error>Type"`
	Code    string   `xml:"Error>Code"`
	Message string   `xml:"Error>Message"`
	Request string   `xml:"RequestId"`
}

// inWords are this API's codes for what every API refuses.
var inWords = map[string]string{
	"AccessDeniedException": "AccessDenied", "ThrottlingException": "Throttling", "UnrecognizedClientException": "InvalidClientTokenId", "InvalidSignatureException": "SignatureDoesNotMatch",
}

func (e *ELB) serve(c *wire.Call, w http.ResponseWriter, _ *http.Request, body []byte, refused error) {
	form, err := url.ParseQuery(string(body))
	action := form.Get("Action")
	var out *answers
	if refused == nil && (err != nil || form.Get("Version") != version) {
		refused = wire.Fail("InvalidAction", "Could not find version %s", form.Get("Version"))
	}
	if refused == nil {
		out, refused = e.describe(c, action, form)
	}
	if refused == nil {
		write(w, http.StatusOK, struct {
			XMLName xml.Name
			Result  any
			Request string `xml:"ResponseMetadata>RequestId"`
		}{xml.Name{Space: space, Local: action + "Response"}, struct {
			XMLName xml.Name
			*answers
		}{xml.Name{Local: action + "Result"}, out}, uuid.NewString()})
		return
	}
	f, ok := errors.AsType[*wire.Error](refused)
	if !ok {
		f = &wire.Error{Code: "InternalFailure", Text: refused.Error(), Status: http.StatusInternalServerError}
	}
	code, status := f.Code, f.Status
	if known, is := inWords[code]; is {
		code, status = known, http.StatusForbidden
	}
	if code == "Throttling" || status == 0 {
		status = http.StatusBadRequest
	}
	write(w, status, failure{Type: "Sender", Code: code, Message: f.Text, Request: uuid.NewString()})
}

func (e *ELB) describe(c *wire.Call, action string, form url.Values) (*answers, error) {
	c.Operation = action
	if err := c.May("*"); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	out := &answers{}
	switch action {
	case "DescribeTargetGroups":
		for i := 1; form.Has(fmt.Sprint("TargetGroupArns.member.", i)); i++ {
			g := e.group(form.Get(fmt.Sprint("TargetGroupArns.member.", i)))
			if g == nil {
				return nil, wire.Fail("TargetGroupNotFound", "One or more target groups not found")
			}
			out.Groups = append(out.Groups, *g)
		}
	case "DescribeTargetHealth":
		g := e.group(form.Get("TargetGroupArn"))
		if g == nil {
			return nil, wire.Fail("TargetGroupNotFound", "Target groups '%s' not found", form.Get("TargetGroupArn"))
		}
		out.Health = g.Targets
	case "DescribeListeners":
		for _, l := range e.listeners {
			if l.Balancer == form.Get("LoadBalancerArn") {
				out.Listeners = append(out.Listeners, l)
			}
		}
		var err error
		if out.Listeners, out.Next, err = page(form, out.Listeners); err != nil {
			return nil, err
		}
	case "DescribeRules":
		i := slices.IndexFunc(e.listeners, func(l Listener) bool { return l.ARN == form.Get("ListenerArn") })
		if i < 0 {
			return nil, wire.Fail("ListenerNotFound", "One or more listeners not found")
		}
		var err error
		if out.Rules, out.Next, err = page(form, e.listeners[i].Rules); err != nil {
			return nil, err
		}
	default:
		return nil, wire.Fail("InvalidAction", "Could not find operation %s for version %s", action, version)
	}
	return out, nil
}

func (e *ELB) group(arn string) *Group {
	i := slices.IndexFunc(e.groups, func(g Group) bool { return g.ARN == arn })
	if i < 0 {
		return nil
	}
	return &e.groups[i]
}

// page is the part of all that is asked for, and the marker of the next.
func page[T any](form url.Values, all []T) ([]T, string, error) {
	from, size := 0, pageSize
	var err error
	if m := form.Get("Marker"); m != "" {
		from, err = strconv.Atoi(m)
	}
	if n := form.Get("PageSize"); n != "" && err == nil {
		size, err = strconv.Atoi(n)
	}
	if err != nil || from < 0 || from > len(all) || size < 1 || size > 400 {
		return nil, "", wire.Fail("ValidationError", "Marker or PageSize is not valid")
	}
	next := min(from+size, len(all))
	if next == len(all) {
		return all[from:], "", nil
	}
	return all[from:next], strconv.Itoa(next), nil
}

func write(w http.ResponseWriter, status int, v any) {
	text, err := xml.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers alone
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	w.Write(text) //nolint:errcheck // the client may have left
}

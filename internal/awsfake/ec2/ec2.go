// Package ec2 stands in for the part of AWS EC2 that tells what an instance is:
// DescribeInstances.
//
// It owns what the operation means and its Query protocol: forms in, XML out,
// in the version 2016-11-15 that the SDK speaks. It must not know patchbay. It
// answers the members that matter here. Start reading at [EC2.API].
package ec2

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"

	"patchbay/internal/awsfake/wire"
)

// version is that of the API.
const version = "2016-11-15"

// Instance is one instance.
type Instance struct {
	ID        string // i- and 17 hexadecimal digits
	State     string // "" is running
	Profile   string // ARN of its instance profile; empty: none
	Addresses []string
}

// EC2 holds the instances of one account and Region. It is safe for concurrent
// use.
type EC2 struct {
	mu        sync.Mutex
	instances map[string]Instance
}

// New has no instances.
func New() *EC2 { return &EC2{instances: map[string]Instance{}} }

// Put launches an instance, or changes it.
func (e *EC2) Put(i Instance) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.instances[i.ID] = i
}

// Forget is EC2 an hour after an instance was terminated.
func (e *EC2) Forget(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.instances, id)
}

// API is the service to be served.
func (e *EC2) API() wire.Service {
	return wire.Service{Signing: "ec2", Plain: e.serve, PlainName: "DescribeInstances", PlainResource: "*"}
}

// codes are the numbers of the states.
var codes = map[string]int{"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}

type state struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

type address struct {
	Address string `xml:"privateIpAddress"`
	Primary bool   `xml:"primary"`
}

type address6 struct {
	Address string `xml:"ipv6Address"`
}

type network struct {
	ID    string     `xml:"networkInterfaceId"`
	First string     `xml:"privateIpAddress,omitempty"`
	V4    []address  `xml:"privateIpAddressesSet>item"`
	V6    []address6 `xml:"ipv6AddressesSet>item"`
}

type profile struct {
	ARN string `xml:"arn"`
	ID  string `xml:"id"`
}

type instance struct {
	ID       string    `xml:"instanceId"`
	State    state     `xml:"instanceState"`
	Address  string    `xml:"privateIpAddress,omitempty"`
	Profile  *profile  `xml:"iamInstanceProfile"`
	Networks []network `xml:"networkInterfaceSet>item"`
}

type reservation struct {
	ID        string     `xml:"reservationId"`
	Owner     string     `xml:"ownerId"`
	Instances []instance `xml:"instancesSet>item"`
}

type response struct {
	XMLName      xml.Name      `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeInstancesResponse"`
	Request      string        `xml:"requestId"`
	Reservations []reservation `xml:"reservationSet>item"`
}

type failure struct {
	XMLName xml.Name `xml:"Response"`
	Code    string   `xml:"Errors>Error>Code"`
	Message string   `xml:"Errors>Error>Message"`
	Request string   `xml:"RequestID"`
}

// inWords are this API's codes for what every API refuses.
var inWords = map[string]string{
	"AccessDeniedException": "UnauthorizedOperation", "ThrottlingException": "RequestLimitExceeded", "UnrecognizedClientException": "AuthFailure",
	"InvalidSignatureException": "SignatureDoesNotMatch", "MissingAuthenticationTokenException": "MissingAuthenticationToken",
}

func (e *EC2) serve(c *wire.Call, w http.ResponseWriter, _ *http.Request, body []byte, refused error) {
	var out *response
	if refused == nil {
		out, refused = e.describe(c, body)
	}
	if refused == nil {
		write(w, http.StatusOK, out)
		return
	}
	f, ok := errors.AsType[*wire.Error](refused)
	if !ok {
		f = &wire.Error{Code: "InternalError", Text: refused.Error(), Status: http.StatusInternalServerError}
	}
	code, status, text := f.Code, f.Status, f.Text
	if known, ok := inWords[code]; ok {
		code = known
	}
	switch code {
	case "UnauthorizedOperation":
		status, text = http.StatusForbidden, "You are not authorized to perform this operation. "+text
	case "RequestLimitExceeded":
		status = http.StatusServiceUnavailable
	case "AuthFailure", "SignatureDoesNotMatch", "MissingAuthenticationToken":
		status = http.StatusUnauthorized
	}
	if status == 0 {
		status = http.StatusBadRequest
	}
	write(w, status, failure{Code: code, Message: text, Request: uuid.NewString()})
}

var idForm = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)

// list are the members NAME.1, NAME.2 … of a form.
func list(form url.Values, name string) (all []string) {
	for i := 1; form.Has(name + "." + strconv.Itoa(i)); i++ {
		all = append(all, form.Get(name+"."+strconv.Itoa(i)))
	}
	return all
}

func (e *EC2) describe(c *wire.Call, body []byte) (*response, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("Action") != "DescribeInstances" || form.Get("Version") != version {
		return nil, wire.Fail("InvalidAction", "The action %s is not valid for this web service.", form.Get("Action"))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	named := list(form, "InstanceId")
	for _, id := range named {
		if !idForm.MatchString(id) {
			return nil, wire.Fail("InvalidInstanceID.Malformed", "Invalid id: \"%s\"", id)
		}
		if _, ok := e.instances[id]; !ok {
			return nil, wire.Fail("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
		}
	}
	keep := func(id string) bool { return len(named) == 0 || slices.Contains(named, id) }
	for n := 1; form.Has(fmt.Sprintf("Filter.%d.Name", n)); n++ {
		name, values := form.Get(fmt.Sprintf("Filter.%d.Name", n)), list(form, fmt.Sprintf("Filter.%d.Value", n))
		if name != "instance-id" {
			return nil, wire.Fail("InvalidParameterValue", "The filter '%s' is invalid", name)
		}
		if len(values) > 200 {
			return nil, wire.Fail("FilterLimitExceeded", "The maximum number of filter values specified on a single call is 200")
		}
		before := keep
		keep = func(id string) bool { return before(id) && slices.Contains(values, id) }
	}
	out := &response{Request: uuid.NewString()}
	for id, i := range e.instances {
		if keep(id) {
			out.Reservations = append(out.Reservations, reservation{"r-" + strings.TrimPrefix(id, "i-"), c.Principal.Account, []instance{i.encode()}})
		}
	}
	slices.SortFunc(out.Reservations, func(a, b reservation) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// encode is an instance as it goes over the wire. One that is terminated has
// no interface any more.
func (i Instance) encode() instance {
	if i.State == "" {
		i.State = "running"
	}
	out := instance{ID: i.ID, State: state{codes[i.State], i.State}}
	if i.Profile != "" {
		out.Profile = &profile{i.Profile, "AIPAEXAMPLE"}
	}
	if i.State == "terminated" || len(i.Addresses) == 0 {
		return out
	}
	n := network{ID: "eni-" + strings.TrimPrefix(i.ID, "i-")}
	for _, a := range i.Addresses {
		if strings.Contains(a, ":") {
			n.V6 = append(n.V6, address6{a})
			continue
		}
		n.V4 = append(n.V4, address{a, len(n.V4) == 0})
	}
	if len(n.V4) > 0 {
		n.First, out.Address = n.V4[0].Address, n.V4[0].Address
	}
	out.Networks = []network{n}
	return out
}

func write(w http.ResponseWriter, status int, v any) {
	text, err := xml.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers alone
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(append([]byte(xml.Header), text...)) // the client may have left
}

// Package declare reads what a task says of itself in ECS's own words,
// serviceConnectConfiguration and portMappings, and checks it by ECS's rules.
//
// It owns these rules and their messages. It must not know the network, the
// registry or Envoy. Start reading at [Parse].
package declare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// firstIngressPort is where Envoy listens for the first service of a task
// that has no ingressPortOverride; the next one gets the next port.
const firstIngressPort = 15010

// Task is a declaration that holds.
type Task struct {
	Enabled        bool
	Namespace      string   // name or ARN; empty: the cluster's default
	Ports          []Port   // in the order of services; empty: client-only
	ContainerPorts []uint16 // sorted: every port that the task's containers use
	AccessLog      *AccessLog
	LogLevel       string // of the proxy: "info" or "debug"
	// Dependencies are the discovery names of what the task calls, sorted: its
	// sidecar is told of these only. Empty: of all in the namespace.
	Dependencies []string
	// Policies are the task's own word on services that it calls, by
	// discoveryName.
	Policies map[string]*policy.Policy
	// Revision is the deployment that the task is of; empty: not said here.
	Revision string
	// Ignored is what is accepted and has no effect, with what takes its place.
	Ignored Problems
}

// Port is one entry of services, joined with its port mapping.
type Port struct {
	PortName      string
	DiscoveryName string
	Protocol      mesh.Protocol
	ContainerPort uint16
	IngressPort   uint16
	Aliases       []Alias // never empty: the default alias stands in
	TLS           *mesh.ServiceTLS
	Timeouts      mesh.Timeouts
	Policy        *policy.Policy // what it wants of its callers; nil: nothing said
}

// Alias is a clientAlias. An empty DNSName means discoveryName.namespace.
type Alias struct {
	DNSName string
	Port    uint16
}

// AccessLog is accessLogConfiguration.
type AccessLog struct {
	Format          string // "TEXT" or "JSON"
	QueryParameters bool
}

// Problem is one thing that is wrong, with the JSON path where it stands.
type Problem struct {
	Path string // for example serviceConnectConfiguration.services[0].portName
	Text string // what is wrong and what is allowed
}

func (p Problem) String() string { return p.Path + ": " + p.Text }

// Problems is every problem of a declaration, in the order of the document.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Parse reads the JSON document {"serviceConnectConfiguration": {…},
// "portMappings": […]}. Any error is of type [Problems]. A document without
// serviceConnectConfiguration, or with enabled false, is a Task that is not
// Enabled.
func Parse(document []byte) (Task, error) {
	doc, err := read(document)
	if err != nil {
		return Task{}, Problems{{"declaration", err.Error()}}
	}
	c := &checker{spoiled: map[string]bool{}}
	t := c.task(c.decode(doc))
	if len(c.problems) > 0 {
		return Task{}, inOrder(c.problems, doc.at)
	}
	t.Ignored = inOrder(c.ignored, doc.at)
	return t, nil
}

// decode is strict: an unknown key is an error with its path. What does not
// fit is named and left out, so that the rules can say the rest.
func (c *checker) decode(t *tree) (d document) {
	c.problems = append(c.problems, t.problems...)
	fits := c.compare(t.root, shapeOf[document](), "")
	text, err := json.Marshal(fits)
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil { // compare missed something
		c.problems = append(c.problems, Problem{"declaration", err.Error()})
	}
	return d
}

// checker collects problems on the way.
type checker struct {
	spoiled  map[string]bool // paths about which something has been said: nothing follows from their value
	nameless string          // about port mappings that no portName can name
	problems Problems
	ignored  Problems
}

// bad adds a problem. Of a path that is spoiled, or lies below one, nothing
// more is said.
func (c *checker) bad(path, format string, args ...any) {
	for at := path; ; at = above(at) {
		if c.spoiled[at] {
			return
		}
		if at == "" {
			break
		}
	}
	c.problems = append(c.problems, Problem{path, fmt.Sprintf(format, args...)})
}

// ignore notes what has no effect.
func (c *checker) ignore(path, text string) { c.ignored = append(c.ignored, Problem{path, text}) }

// inOrder sorts problems by where they stand in the document; what is missing
// stands where the object begins that should have it.
func inOrder(problems Problems, at map[string]int64) Problems {
	where := func(path string) int64 {
		for ; path != ""; path = above(path) {
			if n, ok := at[path]; ok {
				return n
			}
		}
		return 0
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(where(a.Path), where(b.Path)) })
	return problems
}

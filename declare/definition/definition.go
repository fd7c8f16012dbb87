// Package definition is a task definition with the service that runs it, in the
// words of the ECS API, wherever it was written.
//
// It owns ECS's rules about a task and its service together, and says each
// problem in the words of the file where its cause stands; the rules about
// serviceConnectConfiguration alone are package declare's. It must not know the
// network, nor how a file is read (package source). Start reading at
// [Definition.Check].
package definition

import (
	"cmp"
	"strings"

	"patchbay/declare/tree"
)

// Form is how a definition was written.
type Form string

// The forms.
const (
	ECS            Form = "ecs"            // JSON of the ECS API
	Terraform      Form = "terraform"      // terraform show -json
	CloudFormation Form = "cloudformation" // a template, JSON or YAML
)

// Definition is a task definition, the service that runs it, or both.
type Definition struct {
	Name string // of the service, else the family
	Form Form
	// Task is what RegisterTaskDefinition takes, with what an answer has
	// besides; nil if there is none. Service is what CreateService takes, with
	// what an answer has besides; nil if there is none.
	Task, Service *tree.Object
	Exists        bool   // Service was read from an answer about one that runs
	Namespace     string // of the service; empty if it is not known
	// Policies is what the task wants of calls, which ECS has no words for: the
	// service's own member policies, or a file beside it; nil if there is none.
	Policies *tree.Object
	// Targets tells of the load balancer's half what the text shows, by the
	// index of loadBalancers.
	Targets map[int]Target
	// TaskKey and ServiceKey name the resources of a template or a plan.
	TaskKey, ServiceKey string
	// Notes are what was taken for granted.
	Notes []Problem

	// TaskRaw and ServiceRaw are the properties of a template as they are
	// written, functions in their long form; nil in other forms.
	TaskRaw, ServiceRaw *tree.Object

	// TaskAt, ServiceAt and PoliciesAt tell where they stand.
	TaskAt, ServiceAt, PoliciesAt Place
}

// Target is the target group that a service registers with, and who sends to
// it. What the text does not show is empty.
type Target struct {
	Protocol    string   // HTTP, HTTPS, TCP, TLS…
	HealthCheck string   // protocol of its health check
	Balancer    string   // "application", "network"
	Policies    []string // security policies of the listeners
	Unhealthy   []string // targets that are, each with why; of one that runs
	// ProxyProtocol: it says who connects by PROXY protocol v2.
	ProxyProtocol bool
}

// Problem is one thing that is wrong, or worth knowing.
type Problem struct {
	File string
	Path string // in the words of the file
	Text string // what is wrong and what is allowed
}

func (p Problem) String() string {
	text := p.Text
	if p.Path != "" {
		text = p.Path + ": " + text
	}
	if p.File != "" {
		text = p.File + ": " + text
	}
	return text
}

// Problems is everything that is wrong.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Family is that of a task definition's name: family, family:revision, or ARN.
func Family(name string) string {
	if strings.HasPrefix(name, "arn:") {
		name = name[strings.LastIndexByte(name, '/')+1:]
	}
	family, _, _ := strings.Cut(name, ":")
	return family
}

// Place tells where in a file an ECS document stands, and how its keys are
// called there.
type Place struct {
	File string
	At   map[string]Spot // by path in ECS's words; "" is the document
	// Unknown are the paths whose values can't be known from the text, with why.
	Unknown map[string]string
}

// Spot is a path in a file, and how keys below it are called there.
type Spot struct {
	Path string
	Word func(string) string // a key in the file's words
}

// Path is an ECS path in the file's words.
func (p Place) Path(ecs string) string {
	for at := ecs; ; at = above(at) {
		s, ok := p.At[at]
		if !ok {
			if at == "" {
				return ecs
			}
			continue
		}
		rest := ecs[len(at):]
		if s.Word != nil {
			rest = reword(rest, s.Word)
		}
		if rest != "" && rest[0] != '.' && rest[0] != '[' {
			rest = "." + rest
		}
		return strings.TrimPrefix(s.Path+rest, ".")
	}
}

// reword changes the keys of a path.
func reword(path string, word func(string) string) string {
	parts := strings.Split(path, ".")
	for i, part := range parts {
		key, index, found := strings.Cut(part, "[")
		if key != "" {
			key = word(key)
		}
		if parts[i] = key; found {
			parts[i] = key + "[" + index
		}
	}
	return strings.Join(parts, ".")
}

// above is the path that contains path.
func above(path string) string { return path[:max(strings.LastIndexAny(path, ".["), 0)] }

// whyUnknown tells why the value of a path, or of one above it, is not known.
func (p Place) whyUnknown(ecs string) (string, bool) {
	for at := ecs; at != ""; at = above(at) {
		if why, ok := p.Unknown[at]; ok {
			return why, true
		}
	}
	return "", false
}

// TaskPath and ServicePath are paths in ECS's words as the file has them.
func (d *Definition) TaskPath(ecs string) string { return d.TaskAt.Path(ecs) }

// ServicePath is TaskPath for the service.
func (d *Definition) ServicePath(ecs string) string { return d.ServiceAt.Path(ecs) }

// TaskFile is the file of the task definition; ServiceFile that of the service.
func (d *Definition) TaskFile() string { return cmp.Or(d.TaskAt.File, d.ServiceAt.File) }

// ServiceFile is where the service stands.
func (d *Definition) ServiceFile() string { return cmp.Or(d.ServiceAt.File, d.TaskAt.File) }

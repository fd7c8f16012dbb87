package registry

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// apiOperations is what the registry answers.
var apiOperations = map[string]func(*Server, []byte) (any, error){
	"CreateHttpNamespace":              handle((*Server).createHTTPNamespace),
	"GetNamespace":                     handle((*Server).getNamespace),
	"ListNamespaces":                   handle((*Server).listNamespaces),
	"DeleteNamespace":                  handle((*Server).deleteNamespace),
	"CreateService":                    handle((*Server).createService),
	"GetService":                       handle((*Server).getService),
	"ListServices":                     handle((*Server).listServices),
	"DeleteService":                    handle((*Server).deleteService),
	"GetServiceAttributes":             handle((*Server).getServiceAttributes),
	"UpdateServiceAttributes":          handle((*Server).updateServiceAttributes),
	"DeleteServiceAttributes":          handle((*Server).deleteServiceAttributes),
	"RegisterInstance":                 handle((*Server).registerInstance),
	"DeregisterInstance":               handle((*Server).deregisterInstance),
	"GetInstance":                      handle((*Server).getInstance),
	"ListInstances":                    handle((*Server).listInstances),
	"DiscoverInstances":                handle((*Server).discoverInstances),
	"DiscoverInstancesRevision":        handle((*Server).discoverRevision),
	"GetOperation":                     handle((*Server).getOperation),
	"TagResource":                      handle((*Server).tagResource),
	"UntagResource":                    handle((*Server).untagResource),
	"ListTagsForResource":              handle((*Server).listTags),
	"UpdateInstanceCustomHealthStatus": handle((*Server).setHealth),
}

// handle decodes a request. Members that this server does not know are
// ignored, as AWS does.
func handle[In any](f func(*Server, In) (any, error)) func(*Server, []byte) (any, error) {
	return func(s *Server, body []byte) (any, error) {
		var in In
		if len(bytes.TrimSpace(body)) > 0 {
			if err := json.Unmarshal(body, &in); err != nil {
				return nil, fail("SerializationException", "the request is not as the API describes it: %v", err)
			}
		}
		return f(s, in)
	}
}

type obj = map[string]any

type tag struct{ Key, Value string }

func tagMap(tags []tag) map[string]string {
	m := map[string]string{}
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}

func newID(prefix string) string {
	return prefix + strings.ReplaceAll(uuid.NewString(), "-", "")[:16]
}

// begin records an asynchronous operation. This server carries it out before
// it answers, so its status is SUCCESS at once.
func (s *Server) begin(b batch, kind, token string, targets map[string]string) (*operation, error) {
	o := &operation{ID: newID("op-"), Type: kind, Status: "SUCCESS", CreateDate: now(), UpdateDate: now(), Targets: targets, Token: token}
	return o, b.put("op/"+o.ID, o)
}

func (s *Server) replay(kind, token string) *operation {
	if token == "" {
		return nil
	}
	for _, o := range s.operations {
		if o.Type == kind && o.Token == token {
			return o
		}
	}
	return nil
}

func operationID(o *operation) any { return obj{"OperationId": o.ID} }

func (s *Server) getOperation(in struct{ OperationId string }) (any, error) { //nolint:revive // the API's spelling
	s.mu.RLock()
	defer s.mu.RUnlock()
	o := s.operations[in.OperationId]
	if o == nil {
		return nil, fail("OperationNotFound", "there is no operation %q", in.OperationId)
	}
	return obj{"Operation": obj{"Id": o.ID, "Type": o.Type, "Status": o.Status, "CreateDate": o.CreateDate, "UpdateDate": o.UpdateDate, "Targets": o.Targets}}, nil
}

// page cuts a sorted list. The token is the key after which to go on.
func page[T any](items []T, key func(T) string, limit *int, token string) ([]T, string, error) {
	most := 100
	if limit != nil {
		if most = *limit; most < 1 || most > 100 {
			return nil, "", fail("InvalidInput", "MaxResults: %d; allowed: 1 to 100", most)
		}
	}
	start := 0
	for start < len(items) && token != "" && key(items[start]) <= token {
		start++
	}
	items = items[start:]
	if len(items) <= most {
		return items, "", nil
	}
	return items[:most], key(items[most-1]), nil
}

var (
	instanceIDForm    = regexp.MustCompile(`^[0-9a-zA-Z_/:.@-]{1,64}$`)
	serviceNameForm   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*$`)
	namespaceNameForm = regexp.MustCompile(`^[!-~]+$`)
	attributeKeyForm  = regexp.MustCompile(`^[!-~]{1,255}$`)
)

func sortedBy[T any](m map[string]T, key func(T) string) []T {
	return slices.SortedFunc(maps.Values(m), func(a, b T) int { return strings.Compare(key(a), key(b)) })
}

// resource finds the tags of a namespace or service by ARN. s.mu is held.
func (s *Server) resource(arn string) (*map[string]string, string, any, error) {
	id := plain(arn)
	if n := s.namespaces[id]; n != nil {
		return &n.Tags, "ns/" + id, n, nil
	}
	if v := s.services[id]; v != nil {
		return &v.Tags, "svc/" + id, v, nil
	}
	return nil, "", nil, fail("ResourceNotFoundException", "there is no resource %q", arn)
}

func (s *Server) tagResource(in struct {
	ResourceARN string
	Tags        []tag
}) (any, error) {
	return s.changeTags(in.ResourceARN, func(t map[string]string) { maps.Copy(t, tagMap(in.Tags)) })
}

func (s *Server) untagResource(in struct {
	ResourceARN string
	TagKeys     []string
}) (any, error) {
	return s.changeTags(in.ResourceARN, func(t map[string]string) {
		for _, k := range in.TagKeys {
			delete(t, k)
		}
	})
}

// maxTags is the API's limit for one resource.
const maxTags = 50

func (s *Server) changeTags(arn string, change func(map[string]string)) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tags, key, v, err := s.resource(arn)
	if err != nil {
		return nil, err
	}
	old, next := *tags, clone(*tags)
	if change(next); len(next) > maxTags {
		return nil, &apiError{Type: "TooManyTagsException", Text: "a resource has at most 50 tags", Extra: map[string]string{"ResourceName": arn}}
	}
	*tags = next
	b := batch{}
	if err := b.put(key, v); err != nil {
		return nil, err
	}
	if err := s.store.Apply(b); err != nil {
		*tags = old
		return nil, err
	}
	return obj{}, nil
}

func (s *Server) listTags(in struct{ ResourceARN string }) (any, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	tags, _, _, err := s.resource(in.ResourceARN)
	if err != nil {
		return nil, err
	}
	out := []tag{}
	for _, k := range slices.Sorted(maps.Keys(*tags)) {
		out = append(out, tag{k, (*tags)[k]})
	}
	return obj{"Tags": out}, nil
}

package registry

import "slices"

func (s *Server) createHTTPNamespace(in struct {
	Name, Description, CreatorRequestId string //nolint:revive // the API's spelling
	Tags                                []tag
}) (any, error) {
	if !namespaceNameForm.MatchString(in.Name) || len(in.Name) > 1024 || len(in.Name) > 4 && in.Name[:4] == "arn:" {
		return nil, fail("InvalidInput", "Name: %q; allowed: 1 to 1024 printable characters, not starting with arn:", in.Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.replay("CREATE_NAMESPACE", in.CreatorRequestId); o != nil {
		return operationID(o), nil
	}
	for _, n := range s.namespaces {
		if n.Name == in.Name {
			return nil, &apiError{Type: "NamespaceAlreadyExists", Text: "there is a namespace of that name", Extra: map[string]string{"NamespaceId": n.ID, "CreatorRequestId": n.CreatorRequestID}}
		}
	}
	n := &namespace{ID: newID("ns-"), Name: in.Name, Type: "HTTP", Description: in.Description, CreatorRequestID: in.CreatorRequestId, CreateDate: now(), Tags: tagMap(in.Tags)}
	b := batch{}
	if err := b.put("ns/"+n.ID, n); err != nil {
		return nil, err
	}
	return s.finish(b, "CREATE_NAMESPACE", in.CreatorRequestId, map[string]string{"NAMESPACE": n.ID}, func() { s.namespaces[n.ID] = n })
}

// finish makes a batch durable together with its operation, then applies it
// in memory and tells the watchers. s.mu is held.
func (s *Server) finish(b batch, kind, token string, targets map[string]string, apply func()) (any, error) {
	o, err := s.begin(b, kind, token, targets)
	if err != nil {
		return nil, err
	}
	if err := s.store.Apply(b); err != nil {
		return nil, err
	}
	s.operations[o.ID] = o
	apply()
	s.wake()
	return operationID(o), nil
}

func (s *Server) describeNamespace(n *namespace) obj {
	count := 0
	for _, v := range s.services {
		if v.NamespaceID == n.ID {
			count++
		}
	}
	return obj{
		"Id": n.ID, "Arn": s.arn("namespace", n.ID), "Name": n.Name, "Type": n.Type, "Description": n.Description, "CreateDate": n.CreateDate,
		"ServiceCount": count, "ResourceOwner": s.o.Account, "Properties": obj{"HttpProperties": obj{"HttpName": n.Name}},
	}
}

func (s *Server) findNamespace(id string) (*namespace, error) {
	n := s.namespaces[plain(id)]
	if n == nil {
		return nil, fail("NamespaceNotFound", "there is no namespace %q", id)
	}
	return n, nil
}

func (s *Server) getNamespace(in struct{ Id string }) (any, error) { //nolint:revive // the API's spelling
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, err := s.findNamespace(in.Id)
	if err != nil {
		return nil, err
	}
	return obj{"Namespace": s.describeNamespace(n)}, nil
}

type filter struct {
	Name, Condition string
	Values          []string
}

type listRequest struct {
	MaxResults *int
	NextToken  string
	Filters    []filter
}

func (s *Server) listNamespaces(in listRequest) (any, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all, next, err := page(sortedBy(s.namespaces, func(n *namespace) string { return n.ID }), func(n *namespace) string { return n.ID }, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := []obj{}
	for _, n := range all {
		field := map[string]string{"NAME": n.Name, "HTTP_NAME": n.Name, "TYPE": n.Type, "RESOURCE_OWNER": "SELF"}
		if matches(in.Filters, field) {
			out = append(out, s.describeNamespace(n))
		}
	}
	return answerPage("Namespaces", out, next), nil
}

// matches holds an object against filters. They apply after the page is cut,
// as in AWS: a page may be empty and still have a successor.
func matches(filters []filter, field map[string]string) bool {
	for _, f := range filters {
		v := field[f.Name]
		ok := slices.Contains(f.Values, v)
		if f.Condition == "BEGINS_WITH" {
			ok = slices.ContainsFunc(f.Values, func(p string) bool { return len(v) >= len(p) && v[:len(p)] == p })
		}
		if !ok {
			return false
		}
	}
	return true
}

func answerPage(name string, items any, next string) obj {
	out := obj{name: items}
	if next != "" {
		out["NextToken"] = next
	}
	return out
}

func (s *Server) deleteNamespace(in struct{ Id string }) (any, error) { //nolint:revive // the API's spelling
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.findNamespace(in.Id)
	if err != nil {
		return nil, err
	}
	for _, v := range s.services {
		if v.NamespaceID == n.ID {
			return nil, fail("ResourceInUse", "namespace %s has services, %s among them: delete them first", n.Name, v.Name)
		}
	}
	return s.finish(batch{"ns/" + n.ID: nil}, "DELETE_NAMESPACE", "", map[string]string{"NAMESPACE": n.ID}, func() { delete(s.namespaces, n.ID) })
}

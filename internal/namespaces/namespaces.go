// Package namespaces finds the Cloud Map namespace that a configuration means.
//
// A namespace has a Name, which may come again with another type or in another
// account, an HttpName, which the discover calls want and which may differ, an
// id and an ARN. It owns which one is meant by a word, and how one that another
// account shares must be named in calls. It must not know what is in it, nor
// how often may be asked. Start reading at [Find].
package namespaces

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
)

// API is the part of Cloud Map that Find uses.
type API interface {
	ListNamespaces(context.Context, *sd.ListNamespacesInput, ...func(*sd.Options)) (*sd.ListNamespacesOutput, error)
}

// Want says which namespace is meant.
type Want struct {
	Local string // its name in the mesh: lower case
	// Registry is its HttpName, id or ARN in Cloud Map; empty: the one whose
	// HttpName is Local, whatever the case.
	Registry string
	// Known is the id of the one that it was found to be. It still is, while it
	// is listed: another account that shares one of the same name changes
	// nothing.
	Known string
}

// Namespace is one of Cloud Map.
type Namespace struct {
	ID, ARN  string
	HTTPName string // what the discover calls want
	Owner    string // the account that shares it with this one; empty: it is this one's
}

// Ref is what Id parameters want: the id, or the ARN of one that is shared.
func (n Namespace) Ref() string {
	if n.Owner != "" {
		return n.ARN
	}
	return n.ID
}

// ServiceRef is the same of a service in it.
func (n Namespace) ServiceRef(id, arn *string) string {
	if n.Owner != "" {
		return aws.ToString(arn)
	}
	return aws.ToString(id)
}

// Account is what OwnerAccount parameters want: nil for one of this account.
func (n Namespace) Account() *string {
	if n.Owner == "" {
		return nil
	}
	return &n.Owner
}

// ErrNone says that a complete listing does not have the namespace.
var ErrNone = errors.New("the registry has no such namespace; make it there, or set createNamespaces")

// ErrSeveral is what the error matches if several namespaces could be meant. It
// names the ARN of each, and what to write.
var ErrSeveral = errors.New("say which is meant")

// Find looks through all that the account has and that is shared with it.
func Find(ctx context.Context, api API, w Want) (Namespace, error) {
	all, err := list(ctx, api, nil)
	if err != nil {
		return Namespace{}, err
	}
	found := choose(all, w)
	switch len(found) {
	case 0:
		return Namespace{}, none(all, w)
	case 1:
	default:
		return Namespace{}, several(found, w)
	}
	s := found[0]
	n := Namespace{ID: aws.ToString(s.Id), ARN: aws.ToString(s.Arn), HTTPName: HTTPName(s)}
	if aws.ToString(s.ResourceOwner) == "" {
		return n, nil // a server that knows nothing of other accounts
	}
	shared, err := list(ctx, api, []types.NamespaceFilter{{Name: types.NamespaceFilterNameResourceOwner, Values: []string{"OTHER_ACCOUNTS"}, Condition: types.FilterConditionEq}})
	if err != nil {
		return Namespace{}, err
	}
	if slices.ContainsFunc(shared, func(o types.NamespaceSummary) bool { return aws.ToString(o.Arn) == n.ARN }) {
		n.Owner = aws.ToString(s.ResourceOwner)
	}
	return n, nil
}

// choose returns those that may be meant: that of an id or ARN, else those of
// an HttpName. A Name alone is not enough: another may get that HttpName at any
// time.
func choose(all []types.NamespaceSummary, w Want) []types.NamespaceSummary {
	var found []types.NamespaceSummary
	for _, n := range all {
		if w.Registry != "" && (aws.ToString(n.Arn) == w.Registry || aws.ToString(n.Id) == w.Registry) {
			return []types.NamespaceSummary{n}
		}
		if w.called(HTTPName(n)) {
			found = append(found, n)
		}
	}
	if i := slices.IndexFunc(found, func(n types.NamespaceSummary) bool { return w.Known != "" && aws.ToString(n.Id) == w.Known }); i >= 0 {
		return found[i : i+1]
	}
	return found
}

func (w Want) called(name string) bool {
	if w.Registry != "" {
		return name == w.Registry
	}
	return strings.ToLower(name) == w.Local
}

// none says also which namespaces have that Name and another HttpName.
func none(all []types.NamespaceSummary, w Want) error {
	for _, n := range all {
		if w.called(aws.ToString(n.Name)) {
			return fmt.Errorf("%w; %s has that Name, but the HttpName %q: if it is meant, write cloudMap: {namespaces: {%s: %s}}",
				ErrNone, aws.ToString(n.Arn), HTTPName(n), w.Local, HTTPName(n))
		}
	}
	return ErrNone
}

func several(found []types.NamespaceSummary, w Want) error {
	var all []string
	for _, n := range found {
		text := aws.ToString(n.Arn) + " (" + string(n.Type)
		if owner := aws.ToString(n.ResourceOwner); owner != "" {
			text += ", of account " + owner
		}
		all = append(all, text+")")
	}
	slices.Sort(all)
	return fmt.Errorf("%d namespaces have the HttpName %q: %s; %w with its ARN: cloudMap: {namespaces: {%s: ARN}}",
		len(found), HTTPName(found[0]), strings.Join(all, ", "), ErrSeveral, w.Local)
}

func list(ctx context.Context, api API, filters []types.NamespaceFilter) ([]types.NamespaceSummary, error) {
	var all []types.NamespaceSummary
	pages := sd.NewListNamespacesPaginator(api, &sd.ListNamespacesInput{MaxResults: aws.Int32(100), Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Namespaces...)
	}
	return all, nil
}

// HTTPName is the name that the discover calls want. It differs from Name when
// a name has been used again.
func HTTPName(n types.NamespaceSummary) string {
	if p := n.Properties; p != nil && p.HttpProperties != nil && aws.ToString(p.HttpProperties.HttpName) != "" {
		return *p.HttpProperties.HttpName
	}
	return aws.ToString(n.Name)
}

package registrar

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/internal/namespaces"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

// trustFor is how long what was read or written of a service's settings is
// taken to be still so.
const trustFor = 30 * time.Second

// known is a service that may be written to.
type known struct {
	id      string // or the ARN, if another account shares the namespace: what calls want
	arn     string
	account *string // that shares the namespace; nil: it is ours
	// current and documents are what its settings were at, as of checked;
	// vips are the names that have a virtual IP.
	checked   time.Time
	current   string
	documents map[string]bool
	vips      map[string]bool
}

// serves reports whether the settings need not be looked at again.
func (k *known) serves(hash string, aliases []mesh.Alias, registeredWith string) bool {
	if time.Since(k.checked) > trustFor {
		return false
	}
	for _, a := range aliases {
		if !k.vips[a.DNSName] {
			return false
		}
	}
	return k.current == hash || registeredWith == hash && k.documents[hash]
}

func (r *Registrar) forget(name mesh.ServiceName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.namespaces, name.Namespace)
	delete(r.services, name)
	clear(r.attributes)
}

// lookup finds a service that may be written to; nil if it does not exist yet.
// With create it makes the namespace if that is missing and allowed.
func (r *Registrar) lookup(ctx context.Context, name mesh.ServiceName, create bool) (*known, error) {
	r.mu.Lock()
	k := r.services[name]
	r.mu.Unlock()
	if k != nil {
		return k, nil
	}
	ns, err := r.namespace(ctx, name, create)
	if err != nil {
		return nil, err
	}
	all, err := r.list(ctx, ns)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if strings.EqualFold(aws.ToString(s.Name), name.DiscoveryName) {
			return r.admit(ctx, name, ns, s)
		}
	}
	return nil, nil //nolint:nilnil // "not there yet" is an answer
}

// admit takes an existing service as ours to write to, or refuses.
func (r *Registrar) admit(ctx context.Context, name mesh.ServiceName, ns namespaces.Namespace, s types.ServiceSummary) (*known, error) {
	arn := aws.ToString(s.Arn)
	refuse := func(what, remedy string) error {
		return &Refusal{Reason: ErrForeign, Service: name, ARN: arn, What: what, Remedy: remedy}
	}
	if n := aws.ToString(s.Name); n != name.DiscoveryName {
		return nil, refuse("a service "+n+" exists, which differs in case only", "delete or rename it, or use another discoveryName")
	}
	if s.Type == types.ServiceTypeDns || s.Type == types.ServiceTypeDnsHttp || s.DnsConfig != nil {
		return nil, refuse("a service of that name exists and makes DNS records (type "+string(s.Type)+")",
			"delete it, or use another discoveryName: the type of a service can't be changed")
	}
	out, err := r.api.ListTagsForResource(ctx, &sd.ListTagsForResourceInput{ResourceARN: s.Arn})
	if err != nil {
		return nil, fmt.Errorf("register %s: read the tags of %s: %w", name, arn, err)
	}
	mine := false
	for _, t := range out.Tags {
		switch aws.ToString(t.Key) {
		case "AmazonECSManaged":
			return nil, refuse("a service of that name exists and Amazon ECS manages it", "use another discoveryName, or remove the ECS service's Service Connect or service discovery first")
		case record.TagManagedBy:
			mine = aws.ToString(t.Value) == record.TagManagedByValue
		}
	}
	switch {
	case mine && aws.ToString(s.Description) != record.Description && aws.ToInt32(s.InstanceCount) > 0:
		if err := r.handedOver(ctx, name, ns, s); err != nil {
			return nil, err
		}
	case !mine:
		return nil, refuse("a service of that name exists and was not made by patchbay",
			fmt.Sprintf("delete it, use another discoveryName, or hand it over with the tag %s=%s", record.TagManagedBy, record.TagManagedByValue))
	}
	k := &known{id: ns.ServiceRef(s.Id, s.Arn), arn: arn, account: ns.Account()}
	r.mu.Lock()
	defer r.mu.Unlock()
	if first := r.services[name]; first != nil {
		return first, nil
	}
	r.services[name] = k
	return k, nil
}

// namespace finds a namespace, and makes it if that is wanted and allowed.
func (r *Registrar) namespace(ctx context.Context, service mesh.ServiceName, create bool) (namespaces.Namespace, error) {
	name := service.Namespace
	known := func() (namespaces.Namespace, bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		n, ok := r.namespaces[name]
		return n, ok
	}
	if n, ok := known(); ok {
		return n, nil
	}
	done, err := r.turns.take(ctx, "namespace "+name)
	if err != nil {
		return namespaces.Namespace{}, err
	}
	defer done()
	if n, ok := known(); ok {
		return n, nil
	}
	refuse := func(what, remedy string) error {
		return &Refusal{Reason: ErrNamespace, Service: service, What: what, Remedy: remedy}
	}
	n, err := namespaces.Find(ctx, r.api, namespaces.Want{Local: name, Registry: r.cfg.Namespaces[name]})
	switch {
	case err == nil:
	case errors.Is(err, namespaces.ErrSeveral):
		return n, refuse("the namespace is not certain", err.Error())
	case !errors.Is(err, namespaces.ErrNone):
		return n, fmt.Errorf("find namespace %s: %w", name, err)
	case !create || !r.cfg.CreateNamespace || r.cfg.Namespaces[name] != "":
		return n, refuse("the namespace does not exist", "create it in Cloud Map, or let the control plane create namespaces")
	default:
		if n.ID, err = r.createNamespace(ctx, name); err != nil {
			return n, err
		}
		if found, err := namespaces.Find(ctx, r.api, namespaces.Want{Local: name, Registry: n.ID}); err == nil {
			n = found
		} else { // not listed yet
			n.HTTPName = name
		}
	}
	r.mu.Lock()
	r.namespaces[name] = n
	r.mu.Unlock()
	return n, nil
}

func (r *Registrar) createNamespace(ctx context.Context, name string) (string, error) {
	for {
		out, err := r.api.CreateHttpNamespace(ctx, &sd.CreateHttpNamespaceInput{
			Name: &name, Description: aws.String(record.Description),
			Tags: []types.Tag{{Key: aws.String(record.TagManagedBy), Value: aws.String(record.TagManagedByValue)}},
		})
		if exists, ok := errors.AsType[*types.NamespaceAlreadyExists](err); ok {
			return aws.ToString(exists.NamespaceId), nil // another replica was faster
		}
		if busy, ok := errors.AsType[*types.DuplicateRequest](err); ok { // another replica is at it
			if err := r.settleFirst(ctx, busy, nil); err != nil {
				return "", fmt.Errorf("create namespace %s: %w", name, err)
			}
			continue
		}
		if err != nil {
			return "", fmt.Errorf("create namespace %s: %w", name, err)
		}
		targets, err := r.finish(ctx, aws.ToString(out.OperationId), nil)
		if err != nil {
			return "", fmt.Errorf("create namespace %s: %w", name, err)
		}
		return targets[string(types.OperationTargetTypeNamespace)], nil
	}
}

func (r *Registrar) list(ctx context.Context, ns namespaces.Namespace) ([]types.ServiceSummary, error) {
	var all []types.ServiceSummary
	pages := sd.NewListServicesPaginator(r.api, &sd.ListServicesInput{
		MaxResults: aws.Int32(100),
		Filters:    []types.ServiceFilter{{Name: types.ServiceFilterNameNamespaceId, Values: []string{ns.Ref()}, Condition: types.FilterConditionEq}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list services of %s: %w", ns.Ref(), err)
		}
		all = append(all, page.Services...)
	}
	return all, nil
}

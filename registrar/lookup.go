package registrar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/mesh"
	"patchbay/mesh/record"
)

// trustFor is how long what was read or written of a service's settings is
// taken to be still so.
const trustFor = 30 * time.Second

// known is a service that may be written to.
type known struct {
	id, arn string
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
	ns, err := r.namespaceID(ctx, name, create)
	if err != nil {
		return nil, err
	}
	all, err := r.list(ctx, ns)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if strings.EqualFold(aws.ToString(s.Name), name.DiscoveryName) {
			return r.admit(ctx, name, s)
		}
	}
	return nil, nil //nolint:nilnil // "not there yet" is an answer
}

// admit takes an existing service as ours to write to, or refuses.
func (r *Registrar) admit(ctx context.Context, name mesh.ServiceName, s types.ServiceSummary) (*known, error) {
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
	if !mine {
		return nil, refuse("a service of that name exists and was not made by patchbay",
			fmt.Sprintf("delete it, use another discoveryName, or hand it over with the tag %s=%s", record.TagManagedBy, record.TagManagedByValue))
	}
	k := &known{id: aws.ToString(s.Id), arn: arn}
	r.mu.Lock()
	defer r.mu.Unlock()
	if first := r.services[name]; first != nil {
		return first, nil
	}
	r.services[name] = k
	return k, nil
}

// namespaceID finds the id of a namespace, and makes the namespace if that is
// wanted and allowed.
func (r *Registrar) namespaceID(ctx context.Context, service mesh.ServiceName, create bool) (string, error) {
	name := service.Namespace
	r.mu.Lock()
	id := r.namespaces[name]
	r.mu.Unlock()
	if id != "" {
		return id, nil
	}
	done, err := r.turns.take(ctx, "namespace "+name)
	if err != nil {
		return "", err
	}
	defer done()
	ids, err := r.findNamespace(ctx, name)
	switch {
	case err != nil:
		return "", err
	case len(ids) > 1:
		return "", &Refusal{Reason: ErrNamespace, Service: service, What: "several namespaces have that name: " + strings.Join(ids, ", "),
			Remedy: "name one by its id or ARN in the control plane's configuration"}
	case len(ids) == 1:
		id = ids[0]
	case !create || !r.cfg.CreateNamespace || r.cfg.Namespaces[name] != "":
		return "", &Refusal{Reason: ErrNamespace, Service: service, What: "the namespace does not exist",
			Remedy: "create it in Cloud Map, or let the control plane create namespaces"}
	default:
		if id, err = r.createNamespace(ctx, name); err != nil {
			return "", err
		}
	}
	r.mu.Lock()
	r.namespaces[name] = id
	r.mu.Unlock()
	return id, nil
}

func (r *Registrar) findNamespace(ctx context.Context, name string) ([]string, error) {
	want := r.cfg.Namespaces[name]
	var ids []string
	pages := sd.NewListNamespacesPaginator(r.api, &sd.ListNamespacesInput{MaxResults: aws.Int32(100)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("find namespace %s: %w", name, err)
		}
		for _, n := range page.Namespaces {
			http := aws.ToString(n.Name)
			if p := n.Properties; p != nil && p.HttpProperties != nil && aws.ToString(p.HttpProperties.HttpName) != "" {
				http = *p.HttpProperties.HttpName
			}
			if want == "" && strings.ToLower(http) == name ||
				want != "" && slices.Contains([]string{http, aws.ToString(n.Id), aws.ToString(n.Arn)}, want) {
				ids = append(ids, aws.ToString(n.Id))
			}
		}
	}
	return ids, nil
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
			if err := r.settleFirst(ctx, busy); err != nil {
				return "", fmt.Errorf("create namespace %s: %w", name, err)
			}
			continue
		}
		if err != nil {
			return "", fmt.Errorf("create namespace %s: %w", name, err)
		}
		targets, err := r.finish(ctx, aws.ToString(out.OperationId))
		if err != nil {
			return "", fmt.Errorf("create namespace %s: %w", name, err)
		}
		return targets[string(types.OperationTargetTypeNamespace)], nil
	}
}

func (r *Registrar) list(ctx context.Context, namespaceID string) ([]types.ServiceSummary, error) {
	var all []types.ServiceSummary
	pages := sd.NewListServicesPaginator(r.api, &sd.ListServicesInput{
		MaxResults: aws.Int32(100),
		Filters:    []types.ServiceFilter{{Name: types.ServiceFilterNameNamespaceId, Values: []string{namespaceID}, Condition: types.FilterConditionEq}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list services of %s: %w", namespaceID, err)
		}
		all = append(all, page.Services...)
	}
	return all, nil
}

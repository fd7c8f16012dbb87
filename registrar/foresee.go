package registrar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/internal/namespaces"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

// Foresee returns what would be refused of services that workloads may offer,
// because of what is in the registry already: before a task finds out. It
// writes nothing. What it could not look at is in the error; the refusals are
// sorted by service.
func (r *Registrar) Foresee(ctx context.Context, offered []mesh.ServiceName) ([]*Refusal, error) {
	byNamespace := map[string][]mesh.ServiceName{}
	for _, name := range offered {
		byNamespace[name.Namespace] = append(byNamespace[name.Namespace], name)
	}
	var out []*Refusal
	var errs []error
	take := func(err error) {
		if refusal, ok := errors.AsType[*Refusal](err); ok {
			out = append(out, refusal)
		} else {
			errs = append(errs, err)
		}
	}
	for _, names := range byNamespace {
		ns, err := r.namespace(ctx, names[0], false)
		if errors.Is(err, ErrNamespace) {
			continue // there is nothing in it; discovery says what is wrong with it
		}
		var all []types.ServiceSummary
		if err == nil {
			all, err = r.list(ctx, ns)
		}
		if err != nil {
			take(err)
			continue
		}
		for _, name := range names {
			take(r.foresee(ctx, name, ns, all))
		}
	}
	slices.SortFunc(out, func(a, b *Refusal) int { return cmp.Compare(a.Service.String(), b.Service.String()) })
	return out, errors.Join(errs...)
}

func (r *Registrar) foresee(ctx context.Context, name mesh.ServiceName, ns namespaces.Namespace, all []types.ServiceSummary) error {
	i := slices.IndexFunc(all, func(s types.ServiceSummary) bool { return strings.EqualFold(aws.ToString(s.Name), name.DiscoveryName) })
	if i < 0 {
		return nil
	}
	r.mu.Lock()
	k := r.services[name]
	r.mu.Unlock()
	if k != nil && k.arn == aws.ToString(all[i].Arn) {
		return nil
	}
	_, err := r.admit(ctx, name, ns, all[i])
	return err
}

// shown is how many instances a refusal names.
const shown = 5

// handedOver refuses a service that patchbay did not make and has never written
// to, if others have instances there: callers would be sent to both.
func (r *Registrar) handedOver(ctx context.Context, name mesh.ServiceName, ns namespaces.Namespace, s types.ServiceSummary) error {
	attrs, err := r.readAttributes(ctx, ns.ServiceRef(s.Id, s.Arn))
	if err != nil {
		return err
	}
	if _, err := record.ParseService(attrs); !errors.Is(err, record.ErrNoSettings) {
		return nil // it has been ours before
	}
	out, err := r.api.DiscoverInstances(ctx, &sd.DiscoverInstancesInput{
		NamespaceName: &ns.HTTPName, ServiceName: s.Name, OwnerAccount: ns.Account(),
		MaxResults: aws.Int32(1000), HealthStatus: types.HealthStatusFilterAll,
	})
	if err != nil {
		return fmt.Errorf("register %s: look who has instances in %s: %w", name, aws.ToString(s.Arn), err)
	}
	var others []string
	for _, i := range out.Instances {
		if i.Attributes[record.AttrOwner] == "" {
			others = append(others, aws.ToString(i.InstanceId))
		}
	}
	if len(others) == 0 {
		return nil
	}
	slices.Sort(others)
	n := len(others)
	if n > shown {
		others = append(others[:shown], "…")
	}
	return &Refusal{Reason: ErrForeign, Service: name, ARN: aws.ToString(s.Arn),
		What:   fmt.Sprintf("a service of that name was handed over by its tag, and others have %d instances in it: %s", n, strings.Join(others, ", ")),
		Remedy: "stop what registers them and deregister them first (aws servicediscovery deregister-instance), or use another discoveryName"}
}

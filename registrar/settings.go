package registrar

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"golang.org/x/sync/errgroup"

	"patchbay/internal/namespaces"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

const (
	// writes is how often settings are written until they read back.
	writes = 6
	// othersFor is how long the attributes of other services are remembered, so
	// that many new services at once do not read each other over and over.
	othersFor = 5 * time.Second
	// readers is how many services are read at the same time.
	readers = 8
)

type cached struct {
	attrs map[string]string
	read  time.Time
}

// other is another service of the namespace, and what it claims.
type other struct {
	summary types.ServiceSummary
	attrs   map[string]string
}

// settle makes sure that the service exists with the request's settings and
// with a virtual IP for each of its names. An instance that is registered
// already does not bring its older settings back into force.
func (r *Registrar) settle(ctx context.Context, req Request, k *known, hash string, there *record.Instance) (_ *known, wrote bool, err error) {
	registeredWith := ""
	if there != nil {
		registeredWith = there.Settings
	}
	done, err := r.turns.take(ctx, "service "+req.Service().String())
	if err != nil {
		return nil, wrote, err
	}
	defer done()
	for i := range writes {
		if k != nil && k.serves(hash, req.Aliases, registeredWith) {
			return k, wrote, nil
		}
		attrs := map[string]string{}
		if k != nil {
			if attrs, err = r.readAttributes(ctx, k.id); err != nil {
				return nil, wrote, err
			}
			if err := r.judge(req, k, attrs); err != nil {
				return nil, wrote, err
			}
			if k.serves(hash, req.Aliases, registeredWith) {
				return k, wrote, nil
			}
		}
		if i > 0 { // what was written did not read back: another replica writes too
			if err := sleep(ctx, rand.N(50*time.Millisecond<<i)); err != nil { //nolint:gosec // not a secret
				return nil, wrote, err
			}
		}
		wrote = true
		if k, err = r.write(ctx, req, k, attrs); err != nil {
			return nil, wrote, err
		}
	}
	return nil, wrote, fmt.Errorf("register %s: its settings were written %d times and do not read back", req.Service(), writes)
}

// judge takes in what the service's attributes say, and refuses another
// protocol. Damaged settings are written anew.
func (r *Registrar) judge(req Request, k *known, attrs map[string]string) error {
	parsed, err := record.ParseService(attrs)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if !errors.Is(err, record.ErrNoSettings) {
			r.log.Warn("the settings of a service are damaged; they are written anew", "service", req.Service().String(), "error", err)
		}
		k.checked = time.Time{}
		return nil
	}
	if was := parsed.Settings().Protocol; was != req.Protocol {
		return &Refusal{Reason: ErrProtocol, Service: req.Service(), ARN: k.arn,
			What:   fmt.Sprintf("the protocol of the service is %s and can't become %s", was, req.Protocol),
			Remedy: "use another discoveryName, or delete the service in Cloud Map when it has no instances"}
	}
	k.current, k.checked = parsed.Current, time.Now()
	k.documents, k.vips = map[string]bool{}, map[string]bool{}
	for h := range parsed.Documents {
		k.documents[h] = true
	}
	for n := range parsed.VIPs {
		k.vips[n] = true
	}
	return nil
}

// write puts the request's settings in force. One at a time in a namespace:
// two services must not take one alias or one virtual IP.
func (r *Registrar) write(ctx context.Context, req Request, k *known, attrs map[string]string) (*known, error) {
	name := req.Service()
	done, err := r.turns.take(ctx, "names of "+name.Namespace)
	if err != nil {
		return nil, err
	}
	defer done()
	ns, err := r.namespace(ctx, name, true)
	if err != nil {
		return nil, err
	}
	others, err := r.others(ctx, ns, name)
	if err != nil {
		return nil, err
	}
	if err := held(req, others); err != nil {
		return nil, err
	}
	vips, err := assign(req, record.ParseVIPs(attrs), others)
	if err != nil {
		return nil, err
	}
	change, err := record.Plan(attrs, req.settings(), vips)
	if err != nil {
		return nil, &Refusal{Reason: ErrNoRoom, Service: name, What: err.Error(), Remedy: less(req)}
	}
	if k == nil {
		if k, err = r.create(ctx, ns, req); err != nil {
			return nil, err
		}
	}
	return k, r.apply(ctx, k.id, change)
}

func (r *Registrar) apply(ctx context.Context, id string, c record.Change) error {
	r.mu.Lock()
	delete(r.attributes, id)
	r.mu.Unlock()
	if len(c.Delete) > 0 {
		if _, err := r.api.DeleteServiceAttributes(ctx, &sd.DeleteServiceAttributesInput{ServiceId: &id, Attributes: c.Delete}); err != nil {
			return fmt.Errorf("delete attributes of %s: %w", id, err)
		}
	}
	if len(c.Put) > 0 {
		if _, err := r.api.UpdateServiceAttributes(ctx, &sd.UpdateServiceAttributesInput{ServiceId: &id, Attributes: c.Put}); err != nil {
			return fmt.Errorf("write attributes of %s: %w", id, err)
		}
	}
	return nil
}

func (r *Registrar) create(ctx context.Context, ns namespaces.Namespace, req Request) (*known, error) {
	name := req.Service()
	out, err := r.api.CreateService(ctx, &sd.CreateServiceInput{
		Name: &name.DiscoveryName, NamespaceId: aws.String(ns.Ref()), Description: aws.String(record.Description),
		// No DNS records, whatever the type of the namespace.
		Type:                    types.ServiceTypeOptionHttp,
		HealthCheckCustomConfig: &types.HealthCheckCustomConfig{FailureThreshold: aws.Int32(1)}, //nolint:staticcheck // the one value that it can have
		Tags: []types.Tag{
			{Key: aws.String(record.TagManagedBy), Value: aws.String(record.TagManagedByValue)},
			{Key: aws.String(record.TagWorkload), Value: aws.String(req.Node.Workload.String())},
		},
	})
	if _, ok := errors.AsType[*types.ServiceAlreadyExists](err); ok { // another replica was faster: look at what it made
		k, err := r.lookup(ctx, name, true)
		if err == nil && k == nil {
			err = fmt.Errorf("create service %s: it exists but is not listed yet", name)
		}
		return k, err
	}
	if err != nil {
		return nil, fmt.Errorf("create service %s: %w", name, err)
	}
	k := &known{id: ns.ServiceRef(out.Service.Id, out.Service.Arn), arn: aws.ToString(out.Service.Arn), account: ns.Account()}
	r.mu.Lock()
	r.services[name] = k
	r.mu.Unlock()
	r.log.Info("service created", "service", name.String(), "arn", k.arn)
	return k, nil
}

// others reads what the other services of the namespace claim.
func (r *Registrar) others(ctx context.Context, ns namespaces.Namespace, except mesh.ServiceName) ([]other, error) {
	all, err := r.list(ctx, ns)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(s types.ServiceSummary) bool { return aws.ToString(s.Name) == except.DiscoveryName })
	out := make([]other, len(all))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i, s := range all {
		g.Go(func() error {
			attrs, err := r.remembered(ctx, ns.ServiceRef(s.Id, s.Arn))
			if _, ok := errors.AsType[*types.ServiceNotFound](err); ok {
				err = nil // deleted since it was listed: it claims nothing
			}
			out[i] = other{s, attrs}
			return err
		})
	}
	return out, g.Wait()
}

func (r *Registrar) remembered(ctx context.Context, id string) (map[string]string, error) {
	r.mu.Lock()
	c, ok := r.attributes[id]
	r.mu.Unlock()
	if ok && time.Since(c.read) < othersFor {
		return c.attrs, nil
	}
	attrs, err := r.readAttributes(ctx, id)
	if err == nil {
		r.mu.Lock()
		r.attributes[id] = cached{attrs, time.Now()}
		r.mu.Unlock()
	}
	return attrs, err
}

func (r *Registrar) readAttributes(ctx context.Context, id string) (map[string]string, error) {
	out, err := r.api.GetServiceAttributes(ctx, &sd.GetServiceAttributesInput{ServiceId: &id})
	if err != nil {
		return nil, fmt.Errorf("read attributes of %s: %w", id, err)
	}
	if out.ServiceAttributes == nil || out.ServiceAttributes.Attributes == nil {
		return map[string]string{}, nil
	}
	return out.ServiceAttributes.Attributes, nil
}

// held refuses an alias that another service has, or that is the default name
// of another service.
func held(req Request, others []other) error {
	for _, o := range others {
		theirs := mesh.ServiceName{Namespace: req.Node.Workload.Namespace, DiscoveryName: strings.ToLower(aws.ToString(o.summary.Name))}
		parsed, err := record.ParseService(o.attrs)
		for _, a := range req.Aliases {
			taken := a.DNSName == theirs.String()
			if err == nil && !taken {
				taken = slices.ContainsFunc(parsed.Settings().Aliases, func(b mesh.Alias) bool { return a.DNSName == b.DNSName && a.Port == b.Port })
			}
			if taken {
				return &Refusal{Reason: ErrAliasHeld, Service: req.Service(), ARN: aws.ToString(o.summary.Arn),
					What: fmt.Sprintf("the alias %s:%d is held by the service %s, created %s", a.DNSName, a.Port, theirs,
						aws.ToTime(o.summary.CreateDate).UTC().Format(time.RFC3339)),
					Remedy: "choose another dnsName or port, or delete that service if it is no longer in use"}
			}
		}
	}
	return nil
}

// assign gives each name of the request a virtual IP: the one written down,
// here or with another service that uses the name on another port; else a free
// one. What is written down is never taken away.
func assign(req Request, own map[string]netip.Addr, others []other) (map[string]netip.Addr, error) {
	names := map[string]netip.Addr{}
	taken := map[netip.Addr]bool{}
	for _, o := range others {
		theirs := record.ParseVIPs(o.attrs)
		if len(theirs) == 0 { // a foreign service has its default name's by hash
			n := strings.ToLower(aws.ToString(o.summary.Name)) + "." + req.Node.Workload.Namespace
			taken[mesh.PickVIP(n, func(netip.Addr) bool { return false })] = true
		}
		for n, v := range theirs {
			names[n], taken[v] = v, true
		}
	}
	for _, v := range own {
		taken[v] = true
	}
	for _, a := range req.Aliases {
		if _, has := own[a.DNSName]; has {
			continue
		}
		v, has := names[a.DNSName]
		if !has {
			v = mesh.PickVIP(a.DNSName, func(x netip.Addr) bool { return taken[x] })
		}
		if !v.IsValid() {
			return nil, &Refusal{Reason: ErrNoRoom, Service: req.Service(), What: "no virtual IP is free in " + mesh.LiveVIPs.String(), Remedy: "delete services that are not in use"}
		}
		own[a.DNSName], taken[v] = v, true
	}
	return own, nil
}

// less is what a request that finds no room could do without.
func less(req Request) string {
	if len(req.Policy.Encode()) > record.MaxValue {
		return "declare a smaller policy: fewer routes, rules or callers"
	}
	return "declare fewer aliases"
}

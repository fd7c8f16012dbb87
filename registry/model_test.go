package registry

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
)

// model is what a registry should say, in the plainest form.
type model struct {
	services map[string]map[string]string // name → instance → attribute v, and health: "1:HEALTHY"
	revision map[string]int64             // the highest ever seen, of services that are gone too
}

// world runs random operations against a registry and the model.
type world struct {
	*lab
	r   *rand.Rand
	ns  string
	ids map[string]string // of services by name
	m   model
}

func (w *world) pick(names ...string) string { return names[w.r.IntN(len(names))] }

// step does one thing to both.
func (w *world) step() {
	t, name, id, v := w.t, w.pick("a", "b", "c"), fmt.Sprint("i", w.r.IntN(6)), fmt.Sprint(w.r.IntN(2))
	svc, exists := w.ids[name]
	_, member := w.m.services[name][id]
	switch what := w.pick("create", "delete", "register", "register", "register", "deregister", "health", "restart"); what {
	case "create":
		out, err := w.CreateService(t.Context(), &sd.CreateServiceInput{Name: &name, NamespaceId: &w.ns, HealthCheckCustomConfig: &types.HealthCheckCustomConfig{}})
		if exists {
			failsWith(t, what, err, "ServiceAlreadyExists")
			break
		}
		w.ids[name], w.m.services[name] = *must[*sd.CreateServiceOutput](t)(out, err).Service.Id, map[string]string{}
	case "delete":
		_, err := w.DeleteService(t.Context(), &sd.DeleteServiceInput{Id: &svc})
		switch {
		case !exists:
			failsWith(t, what, err, "InvalidInput") // an empty id
		case len(w.m.services[name]) > 0:
			failsWith(t, what, err, "ResourceInUse")
		case err != nil:
			t.Error(err)
		default:
			delete(w.ids, name)
			delete(w.m.services, name)
		}
	case "register":
		if exists {
			w.register(svc, id, "v="+v)
			w.m.services[name][id] = v + ":HEALTHY"
		}
	case "deregister":
		if exists && member {
			w.deregister(svc, id)
			delete(w.m.services[name], id)
		}
	case "health":
		if exists && member {
			if err := w.set(svc, id, "UNHEALTHY"); err != nil {
				t.Error(err)
			}
			w.m.services[name][id] = w.m.services[name][id][:1] + ":UNHEALTHY"
		}
	case "restart":
		w.restart()
	}
}

// same holds every service against the model, and the revision against what
// it was: up with each change of membership, and only then.
func (w *world) same(step int, before model) {
	t := w.t
	for name, want := range w.m.services {
		out := must[*sd.DiscoverInstancesOutput](t)(w.DiscoverInstances(t.Context(), &sd.DiscoverInstancesInput{NamespaceName: aws.String("demo"), ServiceName: &name}))
		got := map[string]string{}
		for _, i := range out.Instances {
			got[*i.InstanceId] = i.Attributes["v"] + ":" + string(i.HealthStatus)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("step %d: %s is %v, want %v", step, name, got, want)
		}
		old, existed := before.services[name]
		changed := !existed || members(old) != members(want)
		now, last := *out.InstancesRevision, before.revision[name]
		if existed && (now > last) != changed || now < last {
			t.Fatalf("step %d: %s has revision %d after %d; membership changed: %t", step, name, now, last, changed)
		}
		w.m.revision[name] = now
	}
}

func members(m map[string]string) string {
	var all []string
	for id, s := range m {
		all = append(all, id+"="+s[:1])
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// TestRandomOperations: whatever happens in whatever order, restarts included,
// the registry says what the model says.
func TestRandomOperations(t *testing.T) {
	for seed := range uint64(6) {
		over(t, Options{}, func(t *testing.T, l *lab) {
			w := &world{lab: l, r: rand.New(rand.NewPCG(seed, 1)), ns: l.namespace("demo"), ids: map[string]string{},
				m: model{services: map[string]map[string]string{}, revision: map[string]int64{}}}
			for i := range 150 {
				before := model{services: map[string]map[string]string{}, revision: maps.Clone(w.m.revision)}
				for name, s := range w.m.services {
					before.services[name] = maps.Clone(s)
				}
				w.step()
				w.same(i, before)
			}
		})
	}
}

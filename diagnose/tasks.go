package diagnose

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"patchbay/admin/api"
	"patchbay/internal/count"
)

// memoryMost is what an Envoy may need for each cluster, and at least, before
// that is worth a finding: 69 kB for a cluster were measured, mostly
// statistics.
const (
	memoryMost    = 512 << 10
	memoryAtLeast = 256 << 20
)

// checkTasks judges what single sidecars say of themselves.
func checkTasks(f *Facts, add func(Finding)) {
	if f.Status == nil {
		return
	}
	for _, node := range slices.Sorted(maps.Keys(f.Tasks)) {
		t := f.Tasks[node]
		if why := t.Errors["agent"]; why != "" {
			add(Finding{Code: "PB1404", Subject: node, Cause: "its agent does not answer: " + why, Fix: []string{"look at the sidecar's log"}})
			continue
		}
		if skew := f.Now.Sub(t.At); skew > skewMost || skew < -skewMost {
			add(Finding{Code: "PB1008", Subject: node, Cause: fmt.Sprintf("the clock of its task is %s off", span(skew)),
				Evidence: []string{"there it is " + t.At.Format("15:04:05 MST"), "certificates look expired, or not yet valid, to a wrong clock"},
				Fix:      []string{"timedatectl set-ntp true    (on the task's machine)"}})
		}
		if why := t.Errors["server_info"]; why != "" {
			add(Finding{Code: "PB1306", Subject: node, Cause: "its Envoy does not answer its agent: " + why,
				Fix: []string{"look whether Envoy runs, and whether its machine or its CPU limit lets it", "patchbay sidecar health --json    (in the task)"}})
		}
		for _, l := range t.Listeners {
			if l.Error != "" && l.Name != "" && l.State == api.Broken {
				add(unbound(node, l.Error, l.Name+": "+l.Error))
			}
		}
		if need := uint64(max(memoryAtLeast, memoryMost*len(t.Clusters))); t.Memory > need {
			add(Finding{Code: "PB1309", Subject: node, Cause: fmt.Sprintf("%d MB for %s", t.Memory>>20, count.Of(len(t.Clusters), "service")),
				Fix: []string{"declare `dependencies` so that the sidecar is told of what its task calls"}})
		}
		for _, c := range t.Clusters {
			ejected(f.Status, node, c, add)
			if i := slices.IndexFunc(f.Status.Services, func(s api.Service) bool { return s.Name == c.Name }); i >= 0 {
				if x, is := Inward(node, f.Status.Services[i], c.Hosts); is {
					add(x)
				}
			}
		}
	}
}

// ejected names hosts that an Envoy has stopped calling by its own judgement.
func ejected(st *api.Status, node string, c api.TaskCluster, add func(Finding)) {
	var out []string
	for _, h := range c.Hosts {
		if slices.Contains(h.Failing, "failed_outlier_check") {
			out = append(out, h.Address)
		}
	}
	if len(out) > 0 {
		add(Finding{Code: "PB1505", Subject: node, Cause: "it does not call " + strings.Join(out, ", ") + " of " + c.Name + " for a while: calls failed one after the other",
			Fix: []string{"patchbay explain " + node + " " + callURL(st, c.Name) + "    (what is wrong with them)"}})
	}
}

// callURL is how an application calls a service.
func callURL(st *api.Status, service string) string {
	url := "http://" + service
	for _, s := range st.Services {
		if s.Name != service || len(s.Aliases) == 0 {
			continue
		}
		i := slices.IndexFunc(s.Aliases, func(a api.Alias) bool { return a.LostTo == "" })
		a := s.Aliases[max(i, 0)]
		url = fmt.Sprintf("http://%s:%d", a.DNSName, a.Port)
		if s.Protocol == "tcp" {
			url = fmt.Sprintf("tcp://%s:%d", a.DNSName, a.Port)
		}
	}
	return url
}

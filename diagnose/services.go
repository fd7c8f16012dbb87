package diagnose

import (
	"fmt"

	"patchbay/admin/api"
)

func checkServices(f *Facts, add func(Finding)) {
	if f.Status == nil {
		return
	}
	offered := offers(f.Status)
	for _, s := range f.Status.Services {
		if s.Protocol == "" {
			continue // it has a finding of its own
		}
		n := total(s.Endpoints)
		switch {
		case n == 0 && !f.Status.Ready:
		case n == 0:
			add(Finding{Code: "PB1501", Subject: s.Name, Cause: nobody(s.Name, offered), Evidence: []string{fmt.Sprintf("%d connected tasks offer it", len(offered[s.Name]))},
				Fix: []string{"start a task that offers it, or look at the findings about those that do", "delete the service in the registry if it is not needed any more"}})
		case s.Endpoints["UNHEALTHY"] == n:
			add(Finding{Code: "PB1502", Subject: s.Name, Cause: fmt.Sprintf("all %d endpoints report that they are not healthy", n), Evidence: offered[s.Name],
				Fix: []string{"look at the findings about the tasks that offer it"}})
		case s.TLS != nil && s.TLS.Only && s.Encrypted < n:
			add(Finding{Code: "PB1508", Subject: s.Name, Cause: fmt.Sprintf("%d of %d endpoints speak plain text; the service is locked to TLS, so they are not called", n-s.Encrypted, n),
				Evidence: offered[s.Name], Fix: []string{"deploy the tasks that offer it again, with tls in their declaration"}})
		}
	}
	for _, a := range sortedAddrs(f.Ports) {
		endpoint(a, f.Ports[a], add)
	}
}

// offers lists for each service the tasks that declare it.
func offers(st *api.Status) map[string][]string {
	out := map[string][]string{}
	for _, s := range st.Sidecars {
		for _, p := range s.Ports {
			out[p.Service] = append(out[p.Service], fmt.Sprintf("%s: %s, registered: %v", s.Node, p.Health, p.Registered))
		}
	}
	return out
}

func nobody(service string, offered map[string][]string) string {
	if len(offered[service]) == 0 {
		return "no connected task offers it"
	}
	return "the tasks that offer it are not registered: their findings say why"
}

func endpoint(addr string, p Port, add func(Finding)) {
	subject := p.Service + " at " + addr
	switch {
	case p.TCP != "":
		add(Finding{Code: "PB1503", Subject: subject, Cause: p.TCP, Fix: []string{
			"look whether the task still runs, and at the security group or firewall in front of its ingress port",
		}})
	case p.TLS != "":
		add(Finding{Code: "PB1504", Subject: subject, Cause: p.TLS, Fix: []string{"patchbay verify " + p.Service}})
	}
}

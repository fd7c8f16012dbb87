package diagnose

import (
	"crypto/x509"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"patchbay/admin/api"
	"patchbay/diagnose/verify"
	"patchbay/internal/count"
)

// Client finds a sidecar by its node id, or by the name of its task or workload
// if only it has that.
func Client(st *api.Status, name string) (string, bool) {
	found := Called(st, name)
	if len(found) != 1 {
		return "", false
	}
	return found[0], true
}

// Called are the sidecars that a name may mean: that of the node id alone, or
// all whose task or workload is called so.
func Called(st *api.Status, name string) (found []string) {
	for _, s := range st.Sidecars {
		if s.Node == name {
			return []string{name}
		}
		if strings.Contains("/"+s.Node+"/", "/"+name+"/") {
			found = append(found, s.Node)
		}
	}
	return found
}

func checkServices(f *Facts, add func(Finding)) {
	if f.Status == nil {
		return
	}
	offered := offers(f.Status)
	for _, s := range f.Status.Services {
		if s.Protocol == "" || deleted(s) || len(s.External) > 0 {
			continue // it has a finding of its own, is about to go, or Envoys alone know whether it answers
		}
		n := Total(s.Endpoints)
		switch {
		case n == 0 && !f.Status.Ready:
		case n == 0:
			add(Finding{Code: "PB1501", Subject: s.Name, Cause: nobody(s.Name, offered), Evidence: []string{count.Of(len(offered[s.Name]), "connected task") + " to offer it"},
				Fix: []string{"start a task that offers it, or look at the findings about those that do", "delete the service in the registry if it is not needed any more"}})
		case s.Endpoints["UNHEALTHY"] == n:
			add(Finding{Code: "PB1502", Subject: s.Name, Cause: "of " + count.Of(n, "endpoint") + " none reports to be healthy", Evidence: offered[s.Name],
				Fix: []string{"look at the findings about the tasks that offer it"}})
		case s.TLS != nil && s.TLS.Only && s.Encrypted < n:
			add(Finding{Code: "PB1508", Subject: s.Name, Cause: fmt.Sprintf("of %s, %d without TLS: the service is locked to TLS, so that is not called", count.Of(n, "endpoint"), n-s.Encrypted),
				Evidence: offered[s.Name], Fix: []string{"deploy the tasks that offer it again, with tls in their declaration"}})
		}
	}
	checkProxyless(f, add)
	for _, a := range slices.Sorted(maps.Keys(f.Ports)) {
		if p := f.Ports[a]; f.Details[p.Service] != nil {
			Endpoint(p, f.Details[p.Service], add)
		}
	}
}

// checkProxyless finds gRPC clients that are not shown a service which requires
// a certificate: the control plane can give them none.
func checkProxyless(f *Facts, add func(Finding)) {
	for _, c := range f.Status.Sidecars {
		if c.Stream == nil || !slices.Contains(strings.Split(c.Stream.View, "/"), "grpc") {
			continue
		}
		namespace, _, _ := strings.Cut(c.Node, "/")
		for _, s := range f.Status.Services {
			if s.MutualTLS.Requires() && s.Protocol == "grpc" && NamespaceOf(s.Name) == namespace {
				add(Finding{Code: "PB1513", Subject: c.Node, Cause: s.Name + " requires a certificate of its callers, and gRPC takes none from a control plane: the service is not shown to it",
					Evidence: []string{"view " + c.Stream.View}, Fix: []string{"give the client a sidecar", "make the service's mutualTls permissive, if it may be called without a certificate"}})
			}
		}
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

// Endpoint judges a handshake with an endpoint.
func Endpoint(p verify.Endpoint, d *api.ServiceDetail, add func(Finding)) {
	subject := p.Service + " at " + p.Address
	if p.Unreachable != "" {
		fix := []string{"look whether the task still runs, and at the security group or firewall in front of its ingress port"}
		if at, err := netip.ParseAddrPort(p.Address); err == nil && at.Addr().IsLoopback() {
			fix = []string{"a task is registered with the address from which it reaches the control plane, and " + at.Addr().String() +
				" is another machine for each task: give its agent --xds and --agent an address that other tasks reach"}
		}
		add(Finding{Code: "PB1503", Subject: subject, Cause: p.Unreachable, Evidence: []string{"seen from " + p.From}, Fix: fix})
		return
	}
	if !speaksTLS(d, p.Address) {
		return
	}
	for _, c := range p.Checks {
		if c.Outcome == verify.Fail {
			x := encryption(subject, p, c)
			if d.TLS != nil && d.TLS.OnPurpose && x.Code == "PB1204" {
				x.Cause, x.Fix = x.Cause+": "+onPurposeCause, []string{onPurposeFix}
			}
			add(x)
			return // the first says most
		}
	}
}

func speaksTLS(d *api.ServiceDetail, address string) bool {
	return slices.ContainsFunc(d.Instances, func(e api.Endpoint) bool { return e.Address == address && e.TLS })
}

// encryption is the finding about a check of an endpoint that failed.
func encryption(subject string, p verify.Endpoint, c verify.Check) Finding {
	x := Finding{Code: "PB1504", Subject: subject, Cause: c.Detail, Evidence: []string{"not so: " + c.Title, "seen from " + p.From}, Fix: []string{"patchbay verify " + p.Service}}
	switch c.ID {
	case "plain", "older":
		x.Code = "PB1508"
		x.Fix = []string{"something other than this task's Envoy listens there: look what has the port (ss -ltnp in the task)"}
	case "callers":
		x.Fix = []string{"patchbay status: its Envoy has not taken the newest", "patchbay diff NODE    (what it has, and what it should have)"}
	case "san":
		x.Code = "PB1209"
		x.Fix = []string{"another task has this address now, or its certificate was made for another service: start the task again"}
	case "chain":
		x.Code = "PB1208"
		x.Fix = []string{"the task has a certificate of another CA than the one that the mesh trusts: look at `issuers` in the control plane's configuration, then start the task again"}
	case "validity":
		x.Code = "PB1204"
		x.Fix = []string{"look at the findings about the CA; and compare the task's clock with the control plane's"}
	case "serial":
		x.Code, x.Severity = "PB1205", Warning
		x.Cause = "the task still shows an older certificate: " + c.Detail
		x.Fix = []string{"patchbay status: its Envoy has not taken the newest"}
	}
	if x.Code == "PB1504" && p.Modern.Error != "" && !p.Plain.Refused {
		x.Cause = "the port speaks plain text: " + p.Plain.Detail
	}
	return x
}

// Callers is what a service wants of its callers.
func Callers(d *api.ServiceDetail) verify.Callers {
	switch {
	case !d.MutualTLS.Requires():
		return verify.Unasked
	case len(d.MutualTLS.Exempt) > 0:
		return verify.AskedBut
	}
	return verify.Asked
}

// Expected is what the port of a service must show.
func Expected(d *api.ServiceDetail) verify.Expect {
	e := verify.Expect{Name: d.Name, Callers: Callers(d)}
	if d.RootsPEM != "" {
		e.Roots = x509.NewCertPool()
		e.Roots.AppendCertsFromPEM([]byte(d.RootsPEM))
	}
	if d.TLS != nil {
		e.Serial = d.TLS.Serial
	}
	return e
}

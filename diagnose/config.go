package diagnose

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"patchbay/internal/count"
)

// What a registrar says of a port that it refuses.
var (
	notOwn   = regexp.MustCompile(`may not offer`)
	noIssuer = regexp.MustCompile(`asks for TLS from issuer`)
	held     = regexp.MustCompile(`alias \S+ is held by the service`)
	foreign  = regexp.MustCompile(`a service (of that name|\S+) (exists|was handed over)`)
)

func checkConfiguration(f *Facts, add func(Finding)) {
	if f.Status == nil {
		return
	}
	for _, n := range f.Status.Namespaces {
		for _, s := range slices.Sorted(maps.Keys(n.Rejected)) {
			add(Finding{Code: "PB1103", Subject: s, Cause: n.Rejected[s], Evidence: []string{"namespace " + n.Name},
				Fix: []string{"rename or delete the service in Cloud Map: aws servicediscovery delete-service --id ID"}})
		}
	}
	for _, x := range f.Status.Conflicts {
		add(inTheWay(x.Service, x.What, x.ARN, x.Remedy))
	}
	for _, s := range f.Status.Services {
		if n := len(s.Strangers); n > 0 {
			add(Finding{Code: "PB1111", Subject: s.Name, Cause: fmt.Sprintf("%d of its instances were not registered by patchbay, and callers are sent to them: %s", n, some(s.Strangers)), Evidence: []string{s.ARN},
				Fix: []string{"aws servicediscovery deregister-instance --service-id " + s.ARN[strings.LastIndexByte(s.ARN, '/')+1:] + " --instance-id ID    (and stop what registers them)"}})
		}
		for _, a := range s.Aliases {
			if a.LostTo != "" {
				add(Finding{Code: "PB1101", Subject: s.Name, Cause: fmt.Sprintf("%s:%d belongs to %s, which is older or of the control plane's file", a.DNSName, a.Port, a.LostTo),
					Evidence: []string{"the older service keeps an alias; calls to it never reach " + s.Name},
					Fix:      []string{"give " + s.Name + " another dnsName or port in clientAliases, or remove the alias from " + a.LostTo}})
			}
		}
		if deleted(s) {
			continue
		}
		if len(s.Skipped) == 0 || s.Settings != "" { // else there is nothing to call yet
			settings(s.Name, s.Settings, s.Source, add)
		}
		if s.Protocol != "" && len(s.Aliases) == 0 {
			add(Finding{Code: "PB1108", Subject: s.Name, Cause: "nobody can call it: it has no client alias", Evidence: []string{s.ARN},
				Fix: []string{"declare clientAliases for it"}})
		}
		for _, reason := range slices.Sorted(maps.Keys(s.Skipped)) {
			add(Finding{Code: "PB1106", Subject: s.Name, Cause: count.Of(s.Skipped[reason], "instance") + ": " + reason, Evidence: []string{s.ARN},
				Fix: []string{"aws servicediscovery list-instances --service-id ID    (docs/reference/cloudmap-attributes.md names what is needed)"}})
		}
	}
}

// checkBalancers is about load balancers whose targets can't be healthy.
func checkBalancers(f *Facts, add func(Finding)) {
	for _, b := range f.Balancers {
		what, allowed, _ := strings.Cut(b.Text, "; allowed: ")
		add(Finding{Code: "PB1112", Subject: b.Where, Cause: what, Evidence: []string{"the ingress of a service with TLS speaks TLS 1.3 alone"}, Fix: []string{"set " + allowed}})
	}
}

func settings(name, text, source string, add func(Finding)) {
	if text == "" && source == "unfinished" {
		text = "its settings have not been written completely"
	}
	if text == "" {
		return
	}
	add(Finding{Code: "PB1105", Subject: name, Cause: text, Evidence: []string{"its state is " + source},
		Fix: []string{"restart one task that offers it: the control plane then writes its settings again"}})
}

// inTheWay is the finding about a service that can't be registered because of
// what the registry has.
func inTheWay(service, what, arn, remedy string) Finding {
	x := Finding{Code: "PB1110", Subject: service, Cause: what, Fix: []string{remedy}}
	if arn != "" {
		x.Evidence = []string{arn}
	}
	return x
}

// some names a few of many.
func some(names []string) string {
	const most = 5
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// registration is the finding about a port that was refused.
func registration(node, port, service, text string) Finding {
	x := Finding{Code: "PB1104", Subject: service, Cause: text, Evidence: []string{node + " port " + port}, Fix: []string{"the reason names what to change; the control plane tries again every 30 s"}}
	switch {
	case notOwn.MatchString(text):
		workload := node[:max(0, strings.LastIndexByte(node, '/'))]
		ns, name, _ := strings.Cut(workload, "/")
		x.Code, x.Fix = "PB1107", []string{
			fmt.Sprintf("patchbay token join --data DATA --namespace %s --workload %s --discovery-name %s --out JOIN    (with every name that it may offer)", ns, name, strings.TrimSuffix(service, "."+ns)),
			"or change discoveryName in the task's declaration",
		}
	case noIssuer.MatchString(text):
		x.Code, x.Fix = "PB1207", []string{"add the issuer to `issuers` in the control plane's configuration, or declare one that is there as awsPcaAuthorityArn"}
	case held.MatchString(text):
		x.Code, x.Fix = "PB1101", []string{"give " + service + " another dnsName or port in clientAliases, or remove the alias from the older service"}
	case several.MatchString(text):
		return registryError("namespace "+NamespaceOf(service), text, node+" port "+port)
	case foreign.MatchString(text):
		x.Code, x.Fix = "PB1110", []string{"the reason names what is in the way and what to do; the control plane tries again every 30 s"}
	case denied.MatchString(text):
		return registryError(service, text, node+" port "+port)
	}
	return x
}

package main

import (
	"fmt"
	"os"

	"patchbay/admin/api"
	"patchbay/config"
	"patchbay/discovery"
	"patchbay/external"
	"patchbay/mesh"
)

// externalTargets are the targets of the file, with the roots by which they are
// verified.
func externalTargets(c config.Config) ([]*mesh.Service, error) {
	var out []*mesh.Service
	for i, e := range c.External {
		t := external.Target{
			Name: mesh.ServiceName{Namespace: e.In(c), DiscoveryName: e.Name}, Protocol: mesh.Protocol(e.Protocol),
			Alias:     e.AliasIn(c),
			Addresses: e.HostPorts(), Discovery: e.Discovery, Host: e.Host, Callers: e.Callers,
		}
		if e.TLS != nil {
			roots, err := external.Roots(e.TLS.CAFile, os.Getenv)
			if err != nil {
				return nil, fmt.Errorf("external[%d].tls.caFile: %w", i, err)
			}
			t.TLS = &mesh.ExternalTLS{SNI: e.TLS.SNI, Names: e.TLS.Names, Roots: roots, MinimumVersion: e.TLS.MinimumVersion}
		}
		out = append(out, t.Service())
	}
	return out, nil
}

// namespaces is what discovery says of each namespace, with the aliases that its
// services have lost to the control plane's file.
func (c *control) namespaces() []discovery.NamespaceStatus {
	all := c.discovery.Status()
	for i, n := range all {
		all[i].Conflicts = append(n.Conflicts, c.external.Conflicts(n.Name)...)
	}
	return all
}

// externalAnswer is a row for each target outside the mesh that sidecars are
// told of.
func externalAnswer(snap *mesh.Snapshot) (out []api.Service) {
	for _, v := range snap.Services {
		if v.External == nil {
			continue
		}
		one := api.Service{Name: v.Name.String(), Source: "external", Aliases: []api.Alias{}, Endpoints: map[string]int{}}
		describe(&one, v)
		one.Callers = v.External.Callers
		for _, a := range v.External.Addresses {
			one.External = append(one.External, a.String())
		}
		if t := v.External.TLS; t != nil {
			one.TLS = &api.TLS{Issuer: "external", Only: true, Names: t.Names}
		}
		out = append(out, one)
	}
	return out
}

package controlplane

import (
	"fmt"
	"os"

	"patchbay/config"
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

package sidecar

import (
	"context"
	"strings"

	"patchbay/xds/bootstrap"
)

// bare are the ports that listen with TLS and without a certificate, by
// portName. Envoy opens such a listener although the control plane has answered
// that the secret is not there yet, and resets every connection: callers that
// are told of it would eject the task.
//
// Envoy is asked until a port has its certificate, and again when the listener
// or the process is another: a secret that is in use stays in use.
func (a *Agent) bare(ctx context.Context, open map[string]bool) map[string]bool {
	process := 0
	if a.envoy != nil {
		process = a.envoy.Starts()
	}
	waiting := map[string]string{} // by portName: how its secret's name begins
	for _, p := range a.cfg.Declaration.Ports {
		switch was, had := a.certified[p.PortName]; {
		case p.TLS == nil:
		case !open["ingress-"+p.PortName]:
			delete(a.certified, p.PortName)
		case !had || was != process:
			waiting[p.PortName] = bootstrap.LeafSecrets + p.DiscoveryName + "."
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	secrets, err := a.admin.Secrets(ctx)
	if err != nil {
		a.log.DebugContext(ctx, "Envoy's certificates are not known", "error", err)
	}
	bare := map[string]bool{}
	for port, secret := range waiting {
		if begins(secrets, secret) {
			a.certified[port] = process
		} else {
			bare[port] = true
		}
	}
	return bare
}

func begins(names map[string]bool, prefix string) bool {
	for n := range names {
		if strings.HasPrefix(n, prefix) {
			return true
		}
	}
	return false
}

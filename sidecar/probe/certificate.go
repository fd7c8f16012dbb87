package probe

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
func (p *Ports) bare(ctx context.Context, e Envoy) map[string]bool {
	if e.Open == nil {
		return nil
	}
	waiting := map[string]string{} // by portName: how its secret's name begins
	for _, port := range p.offered {
		switch was, had := p.certified[port.PortName]; {
		case port.TLS == nil:
		case !e.Open["ingress-"+port.PortName]:
			delete(p.certified, port.PortName)
		case !had || was != e.Process:
			waiting[port.PortName] = bootstrap.LeafSecrets + port.DiscoveryName + "."
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	secrets, err := p.secrets.Secrets(ctx)
	if err != nil {
		p.log.DebugContext(ctx, "Envoy's certificates are not known", "error", err)
	}
	bare := map[string]bool{}
	for port, secret := range waiting {
		if begins(secrets, secret) {
			p.certified[port] = e.Process
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

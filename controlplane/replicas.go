package controlplane

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sync/errgroup"

	"patchbay/discovery"
	"patchbay/discovery/cloud"
	"patchbay/identity"
	"patchbay/mesh"
	"patchbay/replicas"
	"patchbay/replicas/directory"
)

// buildReplicas makes this control plane one of several, if the configuration
// says so.
func (c *control) buildReplicas(endpoint string, cfg aws.Config, d *discovery.Config) error {
	if c.cfg.Replicas == nil {
		return nil
	}
	self, err := advertised(c.cfg.Replicas.Listen, c.cfg.Replicas.Advertise)
	if err != nil {
		return err
	}
	signer, err := identity.OpenSigner(identity.ControlDir(c.cfg.Data), c.cfg.TrustDomain)
	if err != nil {
		return err
	}
	c.line = identity.NewReplica(signer)
	where := directory.Options{Namespace: c.cfg.Namespace(strings.ToLower(c.cfg.Namespaces[0])), Create: c.cfg.CreateNamespaces, Lease: c.lease()}
	content := &replicas.Content{}
	c.content = func() string { return content.Of(c.store.Snapshot()) }
	c.replicas = replicas.New(replicas.Options{
		Content: c.content,
		Self:    self, Log: c.log, Fit: func() bool { return c.discovery.Fit() }, Directory: directory.New(where, cloud.NewClient(cfg, cloud.ClientOptions{Endpoint: endpoint, Attempts: 3, Connections: 2})),
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 2 * time.Second}, Config: c.line.Client()}).DialContext(ctx, "tcp", address)
		},
	})
	d.Share = c.replicas
	return nil
}

// runReplicas reads events, opens the port of the other replicas and serves them.
func (c *control) runReplicas(ctx context.Context, g *errgroup.Group) error {
	if c.queue != nil {
		g.Go(func() error { return c.queue.Run(ctx) })
	}
	if c.replicas == nil {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.cfg.Replicas.Listen)
	if err != nil {
		return fmt.Errorf("replicas.listen: %w", err)
	}
	g.Go(func() error { return c.replicas.Run(ctx, tls.NewListener(l, c.line.Server())) })
	return nil
}

// advertised is the address at which the others reach this replica.
func advertised(listen, advertise string) (string, error) {
	if advertise != "" {
		return advertise, nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("replicas.listen: %w", err)
	}
	if a, err := netip.ParseAddr(host); err == nil && !a.IsUnspecified() {
		return net.JoinHostPort(host, port), nil
	}
	// Nothing is sent: the system says from where it would be.
	probe, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9})
	if err != nil {
		return "", fmt.Errorf("replicas.advertise is missing, and there is no default route: %w", err)
	}
	defer probe.Close()
	return net.JoinHostPort(probe.LocalAddr().(*net.UDPAddr).IP.String(), port), nil
}

// announcer passes on to the other replicas what the registrar says of
// instances that leave. Its hints reach them as soon as the registry answers.
type announcer struct {
	*discovery.CloudMap
	others *replicas.Replicas
}

// Leaving implements [registrar.Discovery].
func (a announcer) Leaving(s mesh.ServiceName, instance string) {
	a.CloudMap.Leaving(s, instance)
	if a.others != nil {
		a.others.Leaving(s, instance)
	}
}

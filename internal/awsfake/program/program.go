// Package program runs the stand-ins for AWS as one: Cloud Map (this
// repository's registry), Private CA, Secrets Manager, STS and ECS at one
// address, what a task asks about itself at another, and at a third how a test
// makes tasks and trouble and asks for the bill.
//
// It owns how these are reached. It must not know what they answer. Start
// reading at [Open].
package program

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"patchbay/internal/awsfake/ecs"
	"patchbay/internal/awsfake/metadata"
	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/secrets"
	"patchbay/internal/awsfake/sts"
	"patchbay/internal/awsfake/wire"
	"patchbay/registry"
	"patchbay/registry/store"
)

// cloudMapTarget stands before Cloud Map's operations in X-Amz-Target.
const cloudMapTarget = "Route53AutoNaming_v20170314."

// Options of a [Program]. Addresses are IP:PORT; port 0 takes a free one.
type Options struct {
	Listen   string // of the APIs
	Metadata string // of the task metadata endpoint
	Control  string // of tasks, faults, calls and the bill
	Region   string
	Account  string

	KeyAlgorithm     string // of the CA that is there from the start
	SigningAlgorithm string
	ShortLived       bool // its mode: certificates of seven days at most

	InProgress int           // how often a new certificate is not ready yet
	Unseen     int           // how often it is not known yet
	Lag        time.Duration // how long secrets are read as they were before a write
	Unlimited  bool          // no rates
	Faults     []string      // see [ParseFault]
	Log        *slog.Logger
}

// Program is AWS. It is safe for concurrent use.
type Program struct {
	o     Options
	aws   *wire.Server
	ecs   *ecs.ECS
	meta  *metadata.Endpoint
	maps  *registry.Server
	pca   *pca.PCA
	ca    string
	ports map[string]net.Listener
	begun time.Time
}

// Open makes the CA and opens the ports. Nothing is answered before Run.
func Open(ctx context.Context, o Options) (*Program, error) {
	authority := pca.New(pca.Options{Polls: o.InProgress, Unseen: o.Unseen})
	p := &Program{o: o, pca: authority, ecs: ecs.New(), meta: metadata.New(), ports: map[string]net.Listener{}, begun: time.Now()}
	p.aws = wire.New(wire.Options{Region: o.Region, Account: o.Account, Unlimited: o.Unlimited},
		authority.API(), secrets.New(secrets.Options{Lag: o.Lag}).API(), sts.API(), p.ecs.API())
	for _, text := range o.Faults {
		f, err := ParseFault(text)
		if err != nil {
			return nil, err
		}
		p.aws.Inject(f)
	}
	var err error
	p.ca, err = authority.Make(pca.Spec{
		KeyAlgorithm: o.KeyAlgorithm, SigningAlgorithm: o.SigningAlgorithm, ShortLived: o.ShortLived, Region: o.Region, Account: o.Account,
		Tags: map[string]string{"AmazonECSManaged": "true"}, Name: "awsfake",
	})
	if err != nil {
		return nil, fmt.Errorf("make the CA: %w", err)
	}
	p.maps = registry.New(&store.Memory{}, registry.Options{Region: o.Region, Account: o.Account, Log: o.Log})
	for name, addr := range map[string]string{"listen": o.Listen, "metadata": o.Metadata, "control": o.Control} {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", name, err) // the process ends, and with it what was opened
		}
		p.ports[name] = l
	}
	return p, nil
}

// URL is how a port is reached: listen, metadata or control.
func (p *Program) URL(port string) string { return "http://" + p.ports[port].Addr().String() }

// CA is the ARN of the CA that is there from the start.
func (p *Program) CA() string { return p.ca }

// Run answers until ctx ends, and returns its cause.
func (p *Program) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.maps.Run(ctx) })
	for name, h := range map[string]http.Handler{"listen": p.apis(), "metadata": p.meta, "control": p.control()} {
		s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
		g.Go(func() error {
			defer context.AfterFunc(ctx, func() { s.Close() })()
			if err := s.Serve(p.ports[name]); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("%s: %w", name, err)
			}
			return context.Cause(ctx)
		})
	}
	return g.Wait()
}

// apis are those of AWS, told apart by the operation that is asked for.
func (p *Program) apis() http.Handler {
	maps := p.aws.Around("servicediscovery", cloudMapTarget, p.maps)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("X-Amz-Target"), cloudMapTarget) || r.Method == http.MethodGet {
			maps.ServeHTTP(w, r)
			return
		}
		p.aws.ServeHTTP(w, r)
	})
}

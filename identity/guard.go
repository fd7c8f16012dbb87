package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
	"patchbay/mesh"
)

// recheck is how often an open stream's workload is looked up again: a
// workload that was removed loses its streams within this time.
const recheck = 30 * time.Second

// Guard stands before every call of a port of the control channel: it turns
// the peer's certificate into a [mesh.Node] in the call's context, and refuses
// whoever has none. It is safe for concurrent use.
type Guard struct {
	trustDomain string
	signer      *Signer
	workloads   *Workloads

	mu   sync.Mutex
	cert *tls.Certificate // the control plane's own, renewed when half its life is over
}

// NewGuard does no I/O.
func NewGuard(trustDomain string, signer *Signer, workloads *Workloads) *Guard {
	return &Guard{trustDomain: trustDomain, signer: signer, workloads: workloads}
}

// Credentials are TLS 1.3. With enrolment a client may come without a
// certificate (the interceptors then let it call Enrol alone); a certificate
// that is shown must be good in either case.
func (g *Guard) Credentials(enrolment bool) credentials.TransportCredentials {
	auth := tls.RequireAndVerifyClientCert
	if enrolment {
		auth = tls.VerifyClientCertIfGiven
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: auth, ClientCAs: g.signer.Pool(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return g.certificate(time.Now()) },
	})
}

func (g *Guard) certificate(now time.Time) (*tls.Certificate, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cert == nil || now.After(g.cert.Leaf.NotAfter.Add(-serverLife/2)) {
		cert, err := g.signer.server()
		if err != nil {
			return nil, fmt.Errorf("control plane's certificate: %w", err)
		}
		g.cert = cert
	}
	return g.cert, nil
}

// Options are the interceptors, for grpc.NewServer.
func (g *Guard) Options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(g.unary), grpc.ChainStreamInterceptor(g.StreamInterceptor)}
}

type nodeKey struct{}

// FromContext is the node behind a call that came through a [Guard].
func FromContext(ctx context.Context) (mesh.Node, error) {
	n, ok := ctx.Value(nodeKey{}).(mesh.Node)
	if !ok {
		return n, errors.New("the call carries no node certificate: enrol first")
	}
	return n, nil
}

// identify returns the peer's node and when its certificate ends.
func (g *Guard) identify(ctx context.Context) (mesh.Node, time.Time, error) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return mesh.Node{}, time.Time{}, status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return mesh.Node{}, time.Time{}, status.Error(codes.Unauthenticated, "this call needs a node certificate; an agent gets one by enrolling with a join proof")
	}
	leaf := info.State.VerifiedChains[0][0]
	n, err := nodeOf(g.trustDomain, g.workloads, leaf)
	if err != nil {
		return n, time.Time{}, status.Error(codes.PermissionDenied, err.Error())
	}
	if !time.Now().Before(leaf.NotAfter) {
		return n, time.Time{}, status.Errorf(codes.Unauthenticated, "the certificate of %s has expired at %s", n.ID(), leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return n, leaf.NotAfter, nil
}

func (g *Guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if info.FullMethod == agentapi.Enrolment_Enrol_FullMethodName {
		return next(ctx, req)
	}
	n, _, err := g.identify(ctx)
	if err != nil {
		return nil, err
	}
	return next(context.WithValue(ctx, nodeKey{}, n), req)
}

type namedStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc.ServerStream is defined by its context
}

func (s namedStream) Context() context.Context { return s.ctx }

// StreamInterceptor puts the node into the stream's context. It ends the call when the certificate expires, and when the workload is
// no longer registered.
func (g *Guard) StreamInterceptor(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	n, until, err := g.identify(ss.Context())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(ss.Context(), nodeKey{}, n))
	defer cancel(nil)
	go g.watch(ctx, cancel, n, until)
	done := make(chan error, 1)
	go func() { done <- next(srv, namedStream{ss, ctx}) }()
	select {
	case err = <-done:
	case <-ctx.Done(): // returning ends the stream, whatever the handler waits for
		err = ctx.Err()
	}
	if refusal := context.Cause(ctx); status.Code(refusal) != codes.Unknown && refusal != nil {
		return refusal
	}
	return err
}

func (g *Guard) watch(ctx context.Context, cancel context.CancelCauseFunc, n mesh.Node, until time.Time) {
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	expiry := time.NewTimer(time.Until(until))
	defer expiry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-expiry.C:
			cancel(status.Errorf(codes.Unauthenticated, "the certificate of %s has expired; connect with the renewed one", n.ID()))
			return
		case <-tick.C:
			// A file that became unreadable does not cut off its workload
			// (see Load): only the absence of its registration does.
			_ = g.workloads.refresh(recheck / 2)
			if _, ok := g.workloads.Find(n.Workload.Namespace, n.Workload.Name); !ok {
				cancel(status.Errorf(codes.PermissionDenied, "workload %s is not registered any more", n.Workload))
				return
			}
		}
	}
}

package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
	"patchbay/identity/join"
	"patchbay/identity/refused"
	"patchbay/identity/registered"
	"patchbay/mesh"
)

// recheck is how often the registration behind an open stream is looked up
// again: what was withdrawn loses its streams within this time and a second.
const recheck = 5 * time.Second

// Guard stands before every call of a port of the control channel: it turns
// the peer's certificate into a [mesh.Node] in the call's context, and refuses
// whoever has none. It is safe for concurrent use.
type Guard struct {
	signer    *Signer
	workloads *registered.Workloads
	refusals  *refused.Log

	mu   sync.Mutex
	cert *tls.Certificate // the control plane's own, renewed when half its life is over
}

// NewGuard does no I/O.
func NewGuard(signer *Signer, workloads *registered.Workloads, log *slog.Logger) *Guard {
	return &Guard{signer: signer, workloads: workloads, refusals: refused.New(log)}
}

// caller is who a certificate proves.
type caller struct {
	node  mesh.Node
	keyID string    // the join key that it came with
	until time.Time // when the certificate ends
}

type callerKey struct{}

var errNobody = errors.New("the call carries no node certificate: enrol first")

// FromContext is the node behind a call that came through a [Guard].
func FromContext(ctx context.Context) (mesh.Node, error) {
	who, ok := ctx.Value(callerKey{}).(caller)
	if !ok {
		return mesh.Node{}, errNobody
	}
	return who.node, nil
}

// identify returns who calls, or a gRPC status.
func (g *Guard) identify(ctx context.Context) (caller, error) {
	who, err := g.proven(ctx)
	if err != nil {
		g.refuse(ctx, err)
	}
	return who, err
}

// refuse logs a refusal, and ends the connection after it if it is about the
// certificate.
func (g *Guard) refuse(ctx context.Context, err error) {
	g.refusals.Refuse(ctx, address(ctx), err)
	if p, ok := peer.FromContext(ctx); ok && status.Code(err) != codes.Unavailable {
		if l, ok := p.AuthInfo.(line); ok && len(l.State.PeerCertificates) > 0 {
			l.hangUp()
		}
	}
}

func (g *Guard) proven(ctx context.Context) (caller, error) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return caller{}, status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(line)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return caller{}, status.Error(codes.Unauthenticated, "this call needs a node certificate; an agent gets one by enrolling with a join proof")
	}
	leaf := info.State.VerifiedChains[0][0]
	who, err := g.callerOf(leaf)
	if err != nil {
		return caller{}, status.Error(codes.PermissionDenied, err.Error())
	}
	if !time.Now().Before(leaf.NotAfter) {
		return caller{}, status.Errorf(codes.Unauthenticated, "the certificate of %s has expired at %s", who.node.ID(), leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return who, nil
}

// callerOf reads the node out of a verified certificate and joins it with what
// its workload may offer now. A workload or a join key that is no longer
// registered has no nodes.
func (g *Guard) callerOf(cert *x509.Certificate) (caller, error) {
	if len(cert.URIs) != 1 || len(cert.DNSNames) > 0 || len(cert.IPAddresses) > 0 {
		return caller{}, errors.New("the client certificate is not a node's: it must have one SPIFFE ID and no other name")
	}
	n, err := parseNodeURI(g.signer.TrustDomain(), cert.URIs[0])
	if err != nil {
		return caller{}, err
	}
	who := caller{node: n, keyID: join.KeyOf(cert), until: cert.NotAfter}
	who.node.Workload, err = g.workloads.Find(n.Workload.Namespace, n.Workload.Name, who.keyID)
	return who, err
}

func (g *Guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if info.FullMethod == agentapi.Enrolment_Enrol_FullMethodName {
		return next(ctx, req)
	}
	who, err := g.identify(ctx)
	if err != nil {
		return nil, err
	}
	return next(context.WithValue(ctx, callerKey{}, who), req)
}

type namedStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc.ServerStream is defined by its context
}

func (s namedStream) Context() context.Context { return s.ctx }

// StreamInterceptor puts the node into the stream's context. It ends the call
// when the certificate expires, and when the registration behind it is gone or
// says something else: the node may come back with what it may do now.
func (g *Guard) StreamInterceptor(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	who, err := g.identify(ss.Context())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(ss.Context(), callerKey{}, who))
	defer cancel(nil)
	go g.watch(ctx, cancel, who)
	done := make(chan error, 1)
	go func() { done <- next(srv, namedStream{ss, ctx}) }()
	select {
	case err = <-done:
	case <-ctx.Done(): // returning ends the stream, whatever the handler waits for
		err = ctx.Err()
	}
	refusal := context.Cause(ctx)
	if _, ours := status.FromError(refusal); ours && refusal != nil {
		g.refuse(ss.Context(), refusal)
		return refusal
	}
	return err
}

func (g *Guard) watch(ctx context.Context, cancel context.CancelCauseFunc, who caller) {
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	expiry := time.NewTimer(time.Until(who.until))
	defer expiry.Stop()
	end := func(code codes.Code, format string, args ...any) {
		cancel(status.Errorf(code, format, args...))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-expiry.C:
			end(codes.Unauthenticated, "the certificate of %s has expired; connect with the renewed one", who.node.ID())
			return
		case <-tick.C:
			// A file that became unreadable does not cut off its workload
			// (see registered.Workloads.Load): only the absence of its registration does.
			now, err := g.workloads.Find(who.node.Workload.Namespace, who.node.Workload.Name, who.keyID)
			switch {
			case err != nil:
				end(codes.PermissionDenied, "%v", err)
				return
			case !slices.Equal(now.DiscoveryNames, who.node.Workload.DiscoveryNames):
				end(codes.Unavailable, "workload %s may offer other discoveryNames now: connect again", now)
				return
			}
		}
	}
}

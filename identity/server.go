package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"patchbay/agentapi"
	"patchbay/audit"
	"patchbay/identity/join"
	"patchbay/identity/refused"
	"patchbay/identity/registered"
	"patchbay/identity/taskrole"
	"patchbay/identity/used"
	"patchbay/mesh"
)

// errInput is wrapped by what is wrong with a request beside its proof.
var errInput = errors.New("the request is refused")

// Server is the enrolment service. It is safe for concurrent use.
type Server struct {
	agentapi.UnimplementedEnrolmentServer
	signer    *Signer
	workloads *registered.Workloads
	used      *used.Proofs
	pace      *refused.Pace
	refusals  *refused.Log
	roles     taskrole.Roles // empty: nobody joins by an AWS role
	audit     func(audit.Event)
	log       *slog.Logger
}

// Audit has to told of every node certificate, and of every refusal: of this
// server and of g. Call it before either is used.
func (s *Server) Audit(g *Guard, to func(audit.Event)) {
	s.audit, s.refusals.Audit, g.refusals.Audit = to, to, to
}

// NewServer opens the record of used proofs in data (the control plane's data
// directory).
func NewServer(data string, signer *Signer, workloads *registered.Workloads, log *slog.Logger) (*Server, error) {
	path := filepath.Join(ControlDir(data), "used-proofs")
	u, err := used.Open(path, time.Now())
	if err != nil {
		return nil, err
	}
	if n := u.Lost(); n > 0 {
		log.Error("the record of used proofs is damaged: a proof that stood there and has not expired can be used once more", "path", path, "lines", n)
	}
	return &Server{signer: signer, workloads: workloads, used: u, pace: refused.NewPace(), refusals: refused.New(log), audit: func(audit.Event) {}, log: log}, nil
}

// Proofs are those that were taken: each is good once.
func (s *Server) Proofs() *used.Proofs { return s.used }

// ByRole lets tasks and instances join by their AWS role besides. Call it
// before the server is used.
func (s *Server) ByRole(r taskrole.Roles) {
	s.roles = r
	s.workloads.SetRoles(r)
}

// Enrol exchanges a proof for a node certificate. Both sides learn why not.
func (s *Server) Enrol(ctx context.Context, r *agentapi.EnrolRequest) (*agentapi.EnrolResponse, error) {
	from := address(ctx)
	if err := s.limit(ctx, from); err != nil {
		return nil, err
	}
	admit := s.admit
	if strings.HasPrefix(r.GetProof(), taskrole.Prefix) {
		admit = s.admitRole
	}
	who, err := admit(ctx, r, time.Now())
	if err != nil {
		s.refusals.Refuse(ctx, from, err, slog.String("node", clip(r.GetNamespace()+"/"+r.GetWorkload()+"/"+r.GetTask())))
		return nil, status.Error(codeOf(err), err.Error())
	}
	return s.answer(ctx, who, r.GetCsrDer(), "enrolled")
}

// admit decides who the caller is. The proof is marked as used last, so that
// a request that is refused for another reason may be mended and repeated.
func (s *Server) admit(ctx context.Context, r *agentapi.EnrolRequest, now time.Time) (caller, error) {
	key, claims, err := verifyProof(s.workloads, s.signer.TrustDomain(), r.GetProof(), r.GetCsrDer(), now)
	if err != nil {
		return caller{}, err
	}
	workload := key.Workload
	if r.GetNamespace() != workload.Namespace || r.GetWorkload() != workload.Name {
		return caller{}, fmt.Errorf("%w: it is that of %s, the task says that it is %.200q: %w", errProof, workload, r.GetNamespace()+"/"+r.GetWorkload(), errForeign)
	}
	who := caller{node: mesh.Node{Workload: workload, Task: r.GetTask()}, keyID: key.ID}
	_, csrErr := csrKey(r.GetCsrDer())
	if err := errors.Join(validNode(who.node), csrErr); err != nil {
		return caller{}, fmt.Errorf("%w: %w", errInput, err)
	}
	first, err := s.used.Claim(ctx, workload.String()+"#"+claims.ID, claims.Expiry.Time().Add(skew), now)
	if err != nil {
		return caller{}, err
	}
	if !first {
		return caller{}, fmt.Errorf("%w: it was used before; an agent makes a new one for each attempt", errProof)
	}
	return who, nil
}

// admitRole is admit for a task or an instance that proves its AWS role.
func (s *Server) admitRole(ctx context.Context, r *agentapi.EnrolRequest, now time.Time) (caller, error) {
	claimed := mesh.Node{Workload: mesh.Workload{Namespace: r.GetNamespace(), Name: r.GetWorkload()}, Task: r.GetTask()}
	_, csrErr := csrKey(r.GetCsrDer())
	if err := errors.Join(validNode(claimed), csrErr); err != nil {
		return caller{}, fmt.Errorf("%w: %w", errInput, err)
	}
	node, err := s.roles.Enrol(ctx, r.GetProof(), r.GetCsrDer(), claimed, peerAddr(ctx), now, s.used.Claim)
	if errors.Is(err, taskrole.ErrRefused) {
		err = fmt.Errorf("%w: %w", errProof, err)
	}
	return caller{node: node, keyID: taskrole.KeyIDOf(node.Task)}, err
}

// peerAddr is where a caller connects from; invalid if that is no IP address.
func peerAddr(ctx context.Context) netip.Addr {
	a, _ := netip.ParseAddr(address(ctx))
	return a.Unmap()
}

func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, errForeign):
		return codes.PermissionDenied
	case errors.Is(err, errProof):
		return codes.Unauthenticated
	case errors.Is(err, errInput):
		return codes.InvalidArgument
	default:
		return codes.Unavailable // the data directory's fault
	}
}

// Renew exchanges the caller's certificate for a fresh one.
func (s *Server) Renew(ctx context.Context, r *agentapi.RenewRequest) (*agentapi.EnrolResponse, error) {
	who, ok := ctx.Value(callerKey{}).(caller)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, errNobody.Error())
	}
	if err := s.limit(ctx, who.node.ID()); err != nil {
		return nil, err
	}
	if taskrole.IsKeyID(who.keyID) {
		// The task may be gone: then who asks is not it any more.
		if err := s.roles.Still(ctx, who.node, peerAddr(ctx)); errors.Is(err, taskrole.ErrRefused) {
			s.refusals.Refuse(ctx, address(ctx), err, slog.String("node", who.node.ID()))
			return nil, status.Error(codes.PermissionDenied, err.Error())
		} else if err != nil {
			return nil, status.Error(codes.Unavailable, err.Error())
		}
	}
	return s.answer(ctx, who, r.GetCsrDer(), "renewed")
}

func (s *Server) answer(ctx context.Context, who caller, csrDER []byte, how string) (*agentapi.EnrolResponse, error) {
	cert, err := s.signer.SignNode(who.node, who.keyID, csrDER)
	if err != nil {
		s.refusals.Refuse(ctx, address(ctx), err, slog.String("node", who.node.ID()))
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	s.log.InfoContext(ctx, "node certificate issued", "node", who.node.ID(), "how", how, "key_id", who.keyID, "address", address(ctx), "serial", fmt.Sprintf("%x", cert.SerialNumber), "not_after", cert.NotAfter)
	s.audit(nodeEvent(who, cert, how, address(ctx)))
	return &agentapi.EnrolResponse{
		ChainDer: [][]byte{cert.Raw}, CaPem: s.signer.CA(), SpiffeId: join.SPIFFEID(s.signer.TrustDomain(), who.node), NodeId: who.node.ID(),
		NotAfter: timestamppb.New(cert.NotAfter), DiscoveryNames: who.node.Workload.DiscoveryNames,
	}, nil
}

// nodeEvent is a node certificate for the audit log.
func nodeEvent(who caller, cert *x509.Certificate, how, peer string) audit.Event {
	e := audit.Of(audit.NodeEnrolled, cert)
	e.Actor, e.Subject, e.Peer, e.Method, e.Issuer = who.node.ID(), who.node.ID(), peer, "join", "control channel"
	switch {
	case how == "renewed":
		e.Kind, e.Method = audit.NodeRenewed, "renew"
	case taskrole.IsKeyID(who.keyID):
		e.Method = "iam"
	}
	return e
}

// limit refuses a caller that comes too often.
func (s *Server) limit(ctx context.Context, who string) error {
	if s.pace.Allow(who) {
		return nil
	}
	err := status.Errorf(codes.ResourceExhausted, "too many certificate requests from %s; allowed: %d a second", who, refused.PerSecond)
	s.refusals.Refuse(ctx, address(ctx), err)
	return err
}

func address(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return "unknown"
	}
	return hostOf(p.Addr)
}

func hostOf(a net.Addr) string {
	if host, _, err := net.SplitHostPort(a.String()); err == nil {
		return host
	}
	return a.String()
}

// clip bounds what a stranger may put into the log.
func clip(s string) string { return fmt.Sprintf("%.200s", s) }

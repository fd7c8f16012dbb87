package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"patchbay/agentapi"
	"patchbay/mesh"
)

// Enrolment attempts of one address: a task that restarts in a loop stays far
// below, a guesser gets nowhere.
const (
	attemptsPerSecond = 5
	attemptsBurst     = 50
	addressesKept     = 4096
)

// Server is the enrolment service. It is safe for concurrent use.
type Server struct {
	agentapi.UnimplementedEnrolmentServer
	trustDomain string
	signer      *Signer
	workloads   *Workloads
	used        *used
	limits      *lru.Cache[string, *rate.Limiter]
	log         *slog.Logger
}

// NewServer opens the record of used proofs in data (the control plane's data
// directory).
func NewServer(data, trustDomain string, signer *Signer, workloads *Workloads, log *slog.Logger) (*Server, error) {
	u, err := openUsed(filepath.Join(data, "control", "used-proofs"), time.Now())
	if err != nil {
		return nil, err
	}
	limits, err := lru.New[string, *rate.Limiter](addressesKept)
	if err != nil {
		return nil, err
	}
	return &Server{trustDomain: trustDomain, signer: signer, workloads: workloads, used: u, limits: limits, log: log}, nil
}

// Enrol exchanges a proof for a node certificate. Both sides learn why not.
func (s *Server) Enrol(ctx context.Context, r *agentapi.EnrolRequest) (*agentapi.EnrolResponse, error) {
	from := address(ctx)
	limit, _, _ := s.limits.PeekOrAdd(from, rate.NewLimiter(attemptsPerSecond, attemptsBurst))
	if limit == nil {
		limit, _ = s.limits.Get(from)
	}
	if limit != nil && !limit.Allow() {
		return nil, status.Errorf(codes.ResourceExhausted, "too many enrolments from %s; allowed: %d a second", from, attemptsPerSecond)
	}
	node, err := s.admit(r, time.Now())
	if err != nil {
		s.log.WarnContext(ctx, "enrolment refused", "namespace", r.GetNamespace(), "workload", r.GetWorkload(), "task", r.GetTask(), "from", from, "reason", err.Error())
		return nil, status.Error(codeOf(err), err.Error())
	}
	return s.answer(ctx, node, r.GetCsrDer(), "enrolled", from)
}

// admit decides who the caller is. The proof is marked as used last, so that
// a request that is refused for another reason may be mended and repeated.
func (s *Server) admit(r *agentapi.EnrolRequest, now time.Time) (mesh.Node, error) {
	workload, claims, err := verifyProof(s.workloads, s.trustDomain, r.GetProof(), r.GetCsrDer(), now)
	if err != nil {
		return mesh.Node{}, err
	}
	if r.GetNamespace() != workload.Namespace || r.GetWorkload() != workload.Name {
		return mesh.Node{}, fmt.Errorf("%w: it is that of %s, the task says it is %s/%s: %w", ErrProof, workload, r.GetNamespace(), r.GetWorkload(), ErrForeign)
	}
	node := mesh.Node{Workload: workload, Task: r.GetTask()}
	if err := ValidNode(node); err != nil {
		return mesh.Node{}, err
	}
	if _, err := csrKey(r.GetCsrDer()); err != nil {
		return mesh.Node{}, err
	}
	fresh, err := s.used.claim(workload.String(), claims.ID, claims.Expiry.Time(), now)
	if err != nil {
		return mesh.Node{}, err
	}
	if !fresh {
		return mesh.Node{}, fmt.Errorf("%w: it was used before; an agent makes a new one at each start", ErrProof)
	}
	return node, nil
}

func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, ErrForeign):
		return codes.PermissionDenied
	case errors.Is(err, ErrProof):
		return codes.Unauthenticated
	default:
		return codes.InvalidArgument
	}
}

// Renew exchanges the caller's certificate for a fresh one.
func (s *Server) Renew(ctx context.Context, r *agentapi.RenewRequest) (*agentapi.EnrolResponse, error) {
	node, err := FromContext(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	return s.answer(ctx, node, r.GetCsrDer(), "renewed", address(ctx))
}

func (s *Server) answer(ctx context.Context, node mesh.Node, csrDER []byte, did, from string) (*agentapi.EnrolResponse, error) {
	cert, err := s.signer.SignNode(node, csrDER)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	s.log.InfoContext(ctx, "node certificate issued", "node", node.ID(), "how", did, "from", from, "serial", fmt.Sprintf("%x", cert.SerialNumber), "not_after", cert.NotAfter)
	return &agentapi.EnrolResponse{
		ChainDer: [][]byte{cert.Raw}, CaPem: s.signer.CA(), SpiffeId: NodeURI(s.trustDomain, node).String(), NodeId: node.ID(),
		NotAfter: timestamppb.New(cert.NotAfter), DiscoveryNames: node.Workload.DiscoveryNames,
	}, nil
}

func address(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return "unknown"
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return p.Addr.String()
	}
	return host
}

// nodeOf reads the node out of a verified certificate and joins it with what
// its workload may offer now. A workload that is no longer registered has no
// nodes.
func nodeOf(trustDomain string, w *Workloads, cert *x509.Certificate) (mesh.Node, error) {
	if len(cert.URIs) != 1 || len(cert.DNSNames) > 0 || len(cert.IPAddresses) > 0 {
		return mesh.Node{}, errors.New("the client certificate is not a node's: it must have one SPIFFE ID and no other name")
	}
	n, err := parseNodeURI(trustDomain, cert.URIs[0])
	if err != nil {
		return mesh.Node{}, err
	}
	workload, ok := w.Find(n.Workload.Namespace, n.Workload.Name)
	if !ok {
		return mesh.Node{}, fmt.Errorf("workload %s is not registered any more", n.Workload)
	}
	n.Workload = workload
	return n, nil
}

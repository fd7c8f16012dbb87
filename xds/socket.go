package xds

import (
	"context"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
)

// Socket is whose tasks connect to a listener: the identity follows it.
type Socket struct {
	// Workload is who they are, and what they may offer.
	Workload mesh.Workload
	// Ports are what a node in the form of AWS's agent offers: those of them
	// for which it has a listener. ListenerPort is the node's to say.
	Ports []SocketPort
}

// SocketPort is a port of a [Socket]'s workload.
type SocketPort struct {
	bootstrap.Port
	Container string // whose address the node gives; empty: the task's loopback
}

var _ delta.Opener = socketOpener{}

// socketOpener opens the streams of one socket.
type socketOpener struct {
	*Pusher
	Socket
}

// NewSocketServer returns a server for the tasks of one workload, which it
// serves both variants of ADS. Who can connect is one of them, so it is for a
// Unix socket whose permissions are the guard.
func NewSocketServer(p *Pusher, s Socket, cfg ServerConfig) *Server {
	cfg.StateOfTheWorld = true
	return newServer(p, socketOpener{p, s}, cfg, true)
}

// Identify implements [delta.Opener]. The tasks of a workload share its socket
// and are told apart by stream, so that there is no node.id to insist on.
func (socketOpener) Identify(context.Context) (delta.Peer, error) { return delta.Peer{}, nil }

// Open implements [delta.Opener].
func (o socketOpener) Open(ctx context.Context, envoy *corev3.Node, s *delta.Stream) (delta.Opened, error) {
	if bootstrap.IsAWS(envoy) {
		return o.openAWS(ctx, envoy, s)
	}
	who, err := o.own(envoy)
	if err != nil {
		return delta.Opened{}, err
	}
	e := entrance{who: who, proxyless: isProxyless(envoy), zone: zoneIn(envoy)}
	if e.meta, err = metaOf(envoy); err != nil {
		return delta.Opened{}, err
	}
	if err := mayOffer(who, e.meta); err != nil {
		return delta.Opened{}, err
	}
	e.collections = takesCollections(envoy) && s.TakesCollections()
	return o.enter(ctx, e, s)
}

// own is a node in our own form: it must know whose socket this is.
func (o socketOpener) own(envoy *corev3.Node) (mesh.Node, error) {
	task, ok := strings.CutPrefix(envoy.GetId(), o.Workload.String()+"/")
	if !ok || !mesh.ValidTask(task) || envoy.GetCluster() != o.Workload.String() {
		return mesh.Node{}, status.Errorf(codes.PermissionDenied,
			"this socket is that of workload %s, and the node says node.id %q, node.cluster %q; allowed: %s/TASK and %s",
			o.Workload, clip(envoy.GetId()), clip(envoy.GetCluster()), o.Workload, o.Workload)
	}
	return mesh.Node{Workload: o.Workload, Task: task}, nil
}

// clip is as much of a claim as tells which it is.
func clip(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:200], ""), len(s))
	}
	return s
}

func isProxyless(envoy *corev3.Node) bool { return strings.HasPrefix(envoy.GetUserAgentName(), "gRPC") }

// metaOf is the metadata of a node in our own form. A gRPC client has no ports.
func metaOf(envoy *corev3.Node) (bootstrap.NodeMeta, error) {
	if isProxyless(envoy) {
		return bootstrap.NodeMeta{}, nil
	}
	meta, err := bootstrap.DecodeMeta(envoy.GetMetadata())
	if err != nil {
		return meta, status.Error(codes.InvalidArgument, err.Error())
	}
	if wrong := policyProblems(meta); wrong != nil {
		return meta, status.Errorf(codes.InvalidArgument, "policies of the node's metadata: %s", strings.Join(wrong, "; "))
	}
	return meta, nil
}

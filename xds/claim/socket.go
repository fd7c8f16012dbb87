package claim

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// Socket is whose tasks connect to a listener: the identity follows it.
type Socket struct {
	// Workload is who they are, and what they may offer.
	Workload mesh.Workload
	// Ports are what a node in the form of AWS's agent offers: those of them
	// for which it has a listener. ListenerPort is the node's to say.
	Ports []Port
}

// Port is a port of a [Socket]'s workload.
type Port struct {
	bootstrap.Port
	Container string // whose address the node gives; empty: the task's loopback
}

// Own is a node in our own form: it must know whose socket this is.
func (s Socket) Own(envoy *corev3.Node) (mesh.Node, error) {
	task, ok := strings.CutPrefix(envoy.GetId(), s.Workload.String()+"/")
	if !ok || !mesh.ValidTask(task) || envoy.GetCluster() != s.Workload.String() {
		return mesh.Node{}, status.Errorf(codes.PermissionDenied,
			"this socket is that of workload %s, and the node says node.id %q, node.cluster %q; allowed: %s/TASK and %s",
			s.Workload, clip(envoy.GetId()), clip(envoy.GetCluster()), s.Workload, s.Workload)
	}
	return mesh.Node{Workload: s.Workload, Task: task}, nil
}

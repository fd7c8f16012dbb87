package registrar

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"patchbay/mesh"
	"patchbay/mesh/record"
)

// offers checks that the workload may act for the service at all.
func offers(i Instance) error {
	w := i.Node.Workload
	if i.DiscoveryName == record.ReplicasService {
		return &Refusal{Reason: ErrNotOffered, Service: i.Service(), What: "the name is reserved for the replicas of the control plane", Remedy: "use another discoveryName"}
	}
	if w.Offers(i.Service()) {
		return nil
	}
	what := "workload " + w.String() + " offers " + list(w.DiscoveryNames) + ", not " + strconv.Quote(i.DiscoveryName)
	return &Refusal{Reason: ErrNotOffered, Service: i.Service(), What: what,
		Remedy: "add the discoveryName to the workload's identity, or register what it offers"}
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing (it is client-only)"
	}
	return strings.Join(names, ", ")
}

// check refuses what is wrong with a request by itself, everything at once.
func check(req Request) error {
	if err := offers(req.Instance); err != nil {
		return err
	}
	if req.Claimed.IsValid() && req.Claimed.Unmap() != req.Peer.Unmap() {
		return &Refusal{Reason: ErrAddress, Service: req.Service(),
			What:   fmt.Sprintf("the task claims the address %s but connects from %s", req.Claimed, req.Peer),
			Remedy: "register from the task itself; only the address of the connection is registered"}
	}
	var errs []error
	if !mesh.ValidDiscoveryName(req.DiscoveryName) {
		errs = append(errs, fmt.Errorf("discoveryName %q: at most 64 of a-z, 0-9, '_', '-', not starting with '-'", req.DiscoveryName))
	}
	if !mesh.ValidDiscoveryName(req.PortName) {
		errs = append(errs, fmt.Errorf("portName %q: at most 64 of a-z, 0-9, '_', '-', not starting with '-'", req.PortName))
	}
	if !mesh.ValidTask(req.Node.Task) {
		errs = append(errs, fmt.Errorf("task %q: 1 to 64 of 0-9, a-z, A-Z, '_', '-'", req.Node.Task))
	}
	if _, err := mesh.CleanAddr(req.Peer.String(), strconv.Itoa(int(req.ListenerPort))); err != nil {
		errs = append(errs, fmt.Errorf("%s port %d: %w", req.Peer, req.ListenerPort, err))
	}
	if _, _, err := req.settings().Encode(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return &Refusal{Reason: ErrInvalid, Service: req.Service(), What: strings.ReplaceAll(err.Error(), "\n", "; "), Remedy: "correct the declaration"}
	}
	return nil
}

package csds

import (
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	"patchbay/xds/delta"
)

var typeURLs = map[string]string{
	"cds": delta.ClusterType, "eds": delta.EndpointType, "leds": delta.MemberType,
	"sds": delta.SecretType, "lds": delta.ListenerType, "rds": delta.RouteType,
}

type resource = statusv3.ClientConfig_GenericXdsConfig

// resources are the rows of one type: what the client was told of, and what it
// asked for in vain.
func resources(t delta.TypeStatus) (out []*resource) {
	rejected := map[string]delta.Rejection{}
	for _, r := range t.Rejected {
		rejected[r.Name] = r
	}
	for _, r := range t.Resources {
		row := &resource{TypeUrl: typeURLs[t.Type], Name: r.Name, VersionInfo: r.Accepted, LastUpdated: stamp(t.LastAck)}
		row.ConfigStatus, row.ClientStatus = states(r)
		if no, bad := rejected[r.Name]; bad {
			reject(row, no)
			delete(rejected, r.Name)
		}
		out = append(out, row)
	}
	told := map[string]bool{}
	for _, r := range t.Resources {
		told[r.Name] = true
	}
	for _, name := range t.Missing {
		if !told[name] {
			out = append(out, &resource{TypeUrl: typeURLs[t.Type], Name: name,
				ConfigStatus: statusv3.ConfigStatus_NOT_SENT, ClientStatus: adminv3.ClientResourceStatus_DOES_NOT_EXIST})
		}
	}
	for _, r := range t.Rejected { // in the order of names
		if no, left := rejected[r.Name]; left {
			row := &resource{TypeUrl: typeURLs[t.Type], Name: r.Name}
			reject(row, no)
			out = append(out, row)
		}
	}
	return out
}

// states are the control plane's and the client's side of one resource.
func states(r delta.ResourceStatus) (statusv3.ConfigStatus, adminv3.ClientResourceStatus) {
	switch {
	case r.Sent == "":
		return statusv3.ConfigStatus_NOT_SENT, adminv3.ClientResourceStatus_DOES_NOT_EXIST
	case r.Waiting:
		return statusv3.ConfigStatus_STALE, adminv3.ClientResourceStatus_REQUESTED
	case r.Pending:
		return statusv3.ConfigStatus_STALE, adminv3.ClientResourceStatus_ACKED
	}
	return statusv3.ConfigStatus_SYNCED, adminv3.ClientResourceStatus_ACKED
}

// reject says what the client refused. The version that it has stays.
func reject(row *resource, no delta.Rejection) {
	row.ConfigStatus, row.ClientStatus = statusv3.ConfigStatus_ERROR, adminv3.ClientResourceStatus_NACKED
	row.ErrorState = &adminv3.UpdateFailureState{Details: no.Error + " (made from " + no.Source + ")", VersionInfo: no.Version, LastUpdateAttempt: stamp(no.At)}
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

package traffic

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"patchbay/agentapi"
	"patchbay/mesh"
)

// What is counted of a revision adds up over tasks, and through a new start of
// an Envoy.
func TestRevisionsAddUp(t *testing.T) {
	l := New(nil)
	now := time.Unix(1_760_000_000, 0)
	say := func(node string, epoch time.Time, requests, errors uint64) {
		l.report(node, "demo/web", &agentapi.Traffic{Epoch: timestamppb.New(epoch), Called: []*agentapi.Called{{
			Service: "api.demo", Requests: 2 * requests, Connections: 1,
			Revisions: []*agentapi.Revision{{Revision: "green", Requests: requests, Errors: errors}},
		}}}, now)
		now = now.Add(5 * time.Second)
	}
	first, again := now.Add(-time.Hour), now.Add(time.Minute)
	say("a", first, 10, 1)
	say("b", first, 5, 0)
	say("a", first, 30, 4)
	say("a", again, 2, 2)
	api := mesh.ServiceName{Namespace: "demo", DiscoveryName: "api"}
	if requests, failed := l.Revision(api, "green"); requests != 37 || failed != 6 {
		t.Errorf("%d requests, %d failed; want 37 and 6", requests, failed)
	}
	if requests, _ := l.Revision(api, "blue"); requests != 0 {
		t.Errorf("blue has %d", requests)
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"patchbay/admin/api"
	"patchbay/config"
	"patchbay/internal/awsfake/sqs"
	awswire "patchbay/internal/awsfake/wire"
	"patchbay/internal/envoytest"
	"patchbay/xds/delta/wire"
)

// queue is one of Amazon SQS to which an EventBridge rule writes.
type queue struct {
	*sqs.SQS
	server, url string
}

func startQueue(t *testing.T) *queue {
	t.Helper()
	q := &queue{SQS: sqs.New()}
	q.Longest = 50 * time.Millisecond
	srv := httptest.NewServer(awswire.New(awswire.Options{Unlimited: true}, q.API()))
	t.Cleanup(srv.Close)
	q.server = srv.URL
	q.url = q.Make(srv.URL, "us-east-1", "111122223333", "patchbay-events")
	return q
}

func (q *queue) config() *config.Events {
	return &config.Events{QueueURL: q.url, Region: "us-east-1", Endpoint: q.server}
}

// changed says that a task of an ECS service changes.
func (q *queue) changed(service, task, last, desired string, version int) {
	q.Send(q.url, fmt.Sprintf(`{"version":"0","id":"x","detail-type":"ECS Task State Change","source":"aws.ecs","time":%q,"detail":{
		"clusterArn":"arn:aws:ecs:us-east-1:111122223333:cluster/prod","taskArn":"arn:aws:ecs:us-east-1:111122223333:task/prod/%s",
		"group":"service:%s","lastStatus":%q,"desiredStatus":%q,"version":%d}}`, time.Now().UTC().Format(time.RFC3339), task, service, last, desired, version))
}

// endpoints asks for the assignments of a cluster, and gives the health of its
// endpoints by address whenever they are sent.
func (a ads) endpoints(node *corev3.Node, cluster string) <-chan map[string]corev3.HealthStatus {
	a.t.Helper()
	if err := a.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: wire.EndpointType, ResourceNamesSubscribe: []string{cluster}}); err != nil {
		a.t.Fatal(err)
	}
	out := make(chan map[string]corev3.HealthStatus, 16)
	go func() {
		defer close(out)
		for {
			r, err := a.Recv()
			if err != nil {
				return
			}
			for _, resource := range r.GetResources() {
				cla, all := &endpointv3.ClusterLoadAssignment{}, map[string]corev3.HealthStatus{}
				if err := resource.GetResource().UnmarshalTo(cla); err != nil {
					return
				}
				for _, l := range cla.GetEndpoints() {
					for _, e := range l.GetLbEndpoints() {
						at := e.GetEndpoint().GetAddress().GetSocketAddress()
						all[fmt.Sprintf("%s:%d", at.GetAddress(), at.GetPortValue())] = e.GetHealthStatus()
					}
				}
				out <- all
			}
			if err := a.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}); err != nil {
				return
			}
		}
	}()
	return out
}

// An event of ECS, from the queue to the stream of an Envoy: a task that is to
// stop is avoided before the registry knows, and one that was started by others
// is found without waiting for a poll.
func TestAnEventReachesTheStreams(t *testing.T) {
	for name, v := range map[string]string{"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, v)
	}
	host := startRegistry(t, "--listen", "127.0.0.1:0")
	registry := strings.TrimPrefix(host.url, "http://")
	one := map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": "8080", "ECS_SERVICE_NAME": "web"}
	two := map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.2", "AWS_INSTANCE_PORT": "8080", "ECS_SERVICE_NAME": "web"}
	register(t, registry, "legacy", map[string]map[string]string{"task1": one}) // by ECS service discovery
	queue := startQueue(t)
	p := startPlane(t, func(c *config.Config) {
		c.Registry, c.CloudMap = nil, &config.CloudMap{Endpoint: host.url, Region: "us-east-1", Events: queue.config()}
	})
	caller := p.party("caller", "t1")
	seen := caller.ads().endpoints(caller.node(), "legacy.demo")
	until := func(what string, ok func(map[string]corev3.HealthStatus) bool) {
		t.Helper()
		limit := time.After(10 * time.Second) // less than any poll
		for {
			select {
			case all, open := <-seen:
				if !open {
					t.Fatalf("%s: the stream has ended", what)
				}
				if ok(all) {
					return
				}
			case <-limit:
				t.Fatalf("%s: no word in 10 s", what)
			}
		}
	}
	const first, second = "10.0.0.1:8080", "10.0.0.2:8080"
	until("at first", func(all map[string]corev3.HealthStatus) bool { return len(all) == 1 })
	register(t, registry, "legacy", map[string]map[string]string{"task2": two})
	queue.changed("web", "task2", "RUNNING", "RUNNING", 3)
	until("a task that was started", func(all map[string]corev3.HealthStatus) bool { return len(all) == 2 })
	queue.changed("web", "task1", "RUNNING", "STOPPED", 4)
	until("a task that is to stop", func(all map[string]corev3.HealthStatus) bool {
		return len(all) == 2 && all[first] == corev3.HealthStatus_UNHEALTHY && all[second] != corev3.HealthStatus_UNHEALTHY
	})

	var st api.Status
	if err := json.Unmarshal(p.get("/api/v1/status"), &st); err != nil {
		t.Fatal(err)
	}
	if e := st.Events; e == nil || !e.Standing || e.Tasks != 2 || e.Queue != queue.url || e.Error != "" {
		t.Errorf("status: %+v", e)
	}
	if r := st.Registry; r == nil || r.Total == 0 || r.Throttled != 0 || r.Dollars <= 0 {
		t.Errorf("status: %+v", r)
	}
	families := p.metrics()
	for name, want := range map[string]float64{"patchbay_events_standing": 1, "patchbay_events_tasks_total": 2} {
		if got := value(families[name], nil); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	out, _ := p.command("status")
	if !strings.Contains(out, "events of ECS: arrive, 2 hints taken") {
		t.Errorf("patchbay status:\n%s", out)
	}
	envoytest.Eventually(t, 10*time.Second, func() error {
		if n := queue.Left(queue.url); n > 0 {
			return fmt.Errorf("%d messages are left in the queue", n)
		}
		return nil
	})
}

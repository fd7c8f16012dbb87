package events_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"patchbay/discovery/events"
	fake "patchbay/internal/awsfake/sqs"
	"patchbay/internal/awsfake/wire"
)

func event(task, service, last, desired string, version int, at time.Time) string {
	return fmt.Sprintf(`{"version":"0","id":"x","detail-type":"ECS Task State Change","source":"aws.ecs","time":%q,"detail":{
		"clusterArn":"arn:aws:ecs:eu-west-1:111122223333:cluster/prod","taskArn":"arn:aws:ecs:eu-west-1:111122223333:task/prod/%s",
		"group":"service:%s","lastStatus":%q,"desiredStatus":%q,"version":%d}}`, at.UTC().Format(time.RFC3339), task, service, last, desired, version)
}

// The real SDK against the protocol: what comes twice, out of order or not about
// a task tells nothing, and an ill queue loses nothing.
func TestEventsBecomeHints(t *testing.T) {
	q := fake.New()
	q.Twice, q.Longest = true, 50*time.Millisecond
	server := wire.New(wire.Options{}, q.API())
	srv := httptest.NewServer(server)
	t.Cleanup(srv.Close)
	url := q.Make(srv.URL, "us-east-1", "111122223333", "events")
	client := sqs.NewFromConfig(aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")},
		func(o *sqs.Options) { o.BaseEndpoint = &srv.URL; o.RetryMaxAttempts = 1 })
	var mu sync.Mutex
	var heard []string
	queue := events.New(events.Options{QueueURL: url, Log: slog.New(slog.DiscardHandler), Changed: func(k events.Task) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, fmt.Sprint(k.Service, "/", k.ID, " ", k.Last, " ", k.Stopping()))
	}}, client)
	if queue.Standing() {
		t.Error("events arrive before the queue was read")
	}
	clear := server.Inject(wire.Fault{Operation: "DeleteMessageBatch", Error: "RequestThrottled", Times: 1})
	defer clear()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = queue.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })

	now := time.Now()
	for _, m := range []string{
		event("t1", "web", "PENDING", "RUNNING", 1, now), // no address yet
		event("t1", "web", "RUNNING", "RUNNING", 3, now),
		event("t1", "web", "ACTIVATING", "RUNNING", 2, now), // late
		event("t1", "web", "RUNNING", "STOPPED", 4, now),
		event("t9", "web", "RUNNING", "STOPPED", 9, now.Add(-time.Hour)), // of another day
		`{"source":"aws.ec2","detail-type":"EC2 Instance State-change Notification"}`,
		`not JSON`,
		`{"Type":"Notification","Message":` + fmt.Sprintf("%q", strings.ReplaceAll(event("t2", "api", "RUNNING", "RUNNING", 1, now), "\n\t\t", "")) + `}`,
	} {
		q.Send(url, m)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		mu.Lock()
		n := len(heard)
		mu.Unlock()
		if n >= 3 && queue.Standing() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("heard %v; left %d", heard, q.Left(url))
		}
		time.Sleep(5 * time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(heard, ", "); got != "web/t1 RUNNING false, web/t1 RUNNING true, api/t2 RUNNING false" {
		t.Errorf("heard %s", got)
	}
}

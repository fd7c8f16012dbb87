package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"patchbay/discovery/pace"
	"patchbay/internal/iam"
)

// API is the part of SQS that a Queue uses; the SDK's client has it.
type API interface {
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
}

// Options are those of New.
type Options struct {
	QueueURL string
	// Changed is told of each change of a task, in the order of arrival; an
	// older version than one that came before is left out. It must not block.
	Changed func(Task)
	// Called is told of every call of the queue: the operation, and "ok" or why
	// not. nil: nobody is told.
	Called func(operation, result string)
	Log    *slog.Logger
}

// wait is how long the queue holds a request that it has no answer for; standing
// is how long after an answer events are taken to arrive.
const (
	wait     = 20 * time.Second
	standing = 3 * wait
	// stale is the age from which an event tells nothing: the queue has been
	// unread for long, and polling was faster.
	stale = 5 * time.Minute
	// remembered bounds the table of tasks' versions.
	remembered = 20_000
)

// Queue reads one. It is safe for concurrent use; Run may run once at a time.
type Queue struct {
	o   Options
	api API

	mu       sync.Mutex
	answered time.Time
	versions map[string]int64 // of tasks, by id
	tasks    uint64
	err      error // of the newest call
}

// Status is what an operator should know of a queue.
type Status struct {
	Queue    string // its URL
	Standing bool
	Answered time.Time // when it last answered; zero: never
	Tasks    uint64    // changes that were told
	Error    error     // of the newest call
}

// Status is a copy of the present state.
func (q *Queue) Status() Status {
	s := Status{Queue: q.o.QueueURL, Standing: q.Standing()}
	q.mu.Lock()
	defer q.mu.Unlock()
	s.Answered, s.Tasks, s.Error = q.answered, q.tasks, q.err
	return s
}

// New does no I/O.
func New(o Options, api API) *Queue {
	if o.Called == nil {
		o.Called = func(string, string) {}
	}
	return &Queue{o: o, api: api, versions: map[string]int64{}}
}

// Standing reports whether events are being read just now.
func (q *Queue) Standing() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.answered.IsZero() && time.Since(q.answered) < standing
}

// Run reads until ctx ends. No failure of the queue ends it: without events
// everything still works, at the pace of polling.
func (q *Queue) Run(ctx context.Context) error {
	failures, said := 0, ""
	for {
		err := q.once(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		q.mu.Lock()
		q.err = err
		q.mu.Unlock()
		if err == nil {
			if failures > 0 {
				q.o.Log.Info("the queue of events answers again", "queue", q.o.QueueURL)
			}
			failures, said = 0, ""
			continue
		}
		if failures++; err.Error() != said {
			q.o.Log.Warn("no events of ECS; changes are found by polling", "queue", q.o.QueueURL, "error", err)
			said = err.Error()
		}
		t := time.NewTimer(pace.Backoff(time.Second, 30*time.Second, failures))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// once receives what is there, or waits for it.
func (q *Queue) once(ctx context.Context) error {
	limited, stop := context.WithTimeout(ctx, wait+10*time.Second)
	defer stop()
	out, err := q.api.ReceiveMessage(limited, &sqs.ReceiveMessageInput{
		QueueUrl: &q.o.QueueURL, MaxNumberOfMessages: 10, WaitTimeSeconds: int32(wait / time.Second),
	})
	if q.called(ctx, "ReceiveMessage", err); err != nil {
		return fmt.Errorf("receive events: %w", q.explain("ReceiveMessage", err))
	}
	q.mu.Lock()
	q.answered = time.Now()
	q.mu.Unlock()
	if len(out.Messages) == 0 {
		return nil
	}
	batch := make([]types.DeleteMessageBatchRequestEntry, 0, len(out.Messages))
	for i, m := range out.Messages {
		q.take(aws.ToString(m.Body))
		batch = append(batch, types.DeleteMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)), ReceiptHandle: m.ReceiptHandle})
	}
	// What is not deleted comes again, and does no harm.
	_, err = q.api.DeleteMessageBatch(limited, &sqs.DeleteMessageBatchInput{QueueUrl: &q.o.QueueURL, Entries: batch})
	if q.called(ctx, "DeleteMessageBatch", err); err != nil {
		return fmt.Errorf("delete events: %w", q.explain("DeleteMessage", err)) // IAM has no action for a batch
	}
	return nil
}

// explain says of a refusal what would allow it.
func (q *Queue) explain(action string, err error) error {
	return iam.Explain(err, "sqs:"+action, arnOf(q.o.QueueURL))
}

var queueURL = regexp.MustCompile(`^https://sqs\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?/([0-9]{12})/([A-Za-z0-9_-]+)$`)

// arnOf is the ARN of a queue; empty if the URL does not say it.
func arnOf(url string) string {
	m := queueURL.FindStringSubmatch(url)
	if m == nil {
		return ""
	}
	partition := "aws"
	if m[2] != "" {
		partition = "aws-cn"
	} else if strings.HasPrefix(m[1], "us-gov-") {
		partition = "aws-us-gov"
	}
	return "arn:" + partition + ":sqs:" + m[1] + ":" + m[3] + ":" + m[4]
}

func (q *Queue) called(ctx context.Context, operation string, err error) {
	switch {
	case ctx.Err() != nil:
	case err == nil:
		q.o.Called(operation, "ok")
	default:
		q.o.Called(operation, "failed")
	}
}

func (q *Queue) take(body string) {
	t, err := parse([]byte(body))
	if errors.Is(err, errOther) {
		return
	}
	if err != nil {
		q.o.Log.Warn("an event can't be read", "queue", q.o.QueueURL, "error", err)
		return
	}
	if settled[t.Last] && !t.Stopping() || time.Since(t.At) > stale || !q.newer(t) {
		return
	}
	q.o.Changed(t)
}

// newer reports whether t is not older than what came before of its task, and
// remembers it.
func (q *Queue) newer(t Task) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if known, ok := q.versions[t.ID]; ok && t.Version <= known {
		return false
	}
	if len(q.versions) >= remembered {
		clear(q.versions) // an old event may pass once more
	}
	q.versions[t.ID] = t.Version
	q.tasks++
	return true
}

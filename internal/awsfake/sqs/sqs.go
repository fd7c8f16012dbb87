// Package sqs stands in for Amazon SQS: standard queues, received by long
// polling and deleted in batches.
//
// It owns what the operations mean: a message that is received is invisible for
// a while and comes again unless it is deleted; it may come twice all the same.
// It must not know the protocol (wire) nor patchbay. Start reading at [SQS.API].
package sqs

import (
	"crypto/md5" //nolint:gosec // what the protocol says
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"patchbay/internal/awsfake/wire"
)

// visibility is how long a received message is hidden unless the queue or the
// call says otherwise.
const visibility = 30 * time.Second

// SQS holds the queues of one account and Region. It is safe for concurrent use.
type SQS struct {
	mu     sync.Mutex
	queues map[string]*queue // by URL
	news   chan struct{}     // closed when a message is sent
	// Twice delivers every message once more than is asked for.
	Twice bool
	// Longest bounds the wait of a call, so that a test's server ends soon; 0: none.
	Longest time.Duration
}

type queue struct {
	arn      string
	messages []*message
}

type message struct {
	id, body string
	hidden   time.Time // until then
	handle   string
	received int
	again    bool // it is still to come once more
}

// New has no queues.
func New() *SQS { return &SQS{queues: map[string]*queue{}, news: make(chan struct{})} }

// Make adds a queue and returns its URL below that of the server.
func (s *SQS) Make(server, region, account, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	url := strings.TrimSuffix(server, "/") + "/" + account + "/" + name
	s.queues[url] = &queue{arn: fmt.Sprintf("arn:aws:sqs:%s:%s:%s", region, account, name)}
	return url
}

// Send puts a message into a queue, as EventBridge does.
func (s *SQS) Send(url, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[url]
	q.messages = append(q.messages, &message{id: uuid.NewString(), body: body, again: s.Twice})
	close(s.news)
	s.news = make(chan struct{})
}

// Left is how many messages a queue has, hidden ones too.
func (s *SQS) Left(url string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queues[url].messages)
}

// API is the service to be served.
func (s *SQS) API() wire.Service {
	return wire.Service{
		Signing: "sqs", Target: "AmazonSQS.", Text: "message",
		Operations: map[string]wire.Operation{
			"ReceiveMessage":     wire.Op("", s.receive),
			"DeleteMessageBatch": wire.Op("", s.remove),
		},
	}
}

type receiveIn struct {
	QueueUrl            string
	MaxNumberOfMessages int
	WaitTimeSeconds     int
	VisibilityTimeout   *int
}

type received struct {
	MessageId     string
	ReceiptHandle string
	MD5OfBody     string
	Body          string
}

type receiveOut struct {
	Messages []received `json:",omitempty"`
}

func (s *SQS) find(url string) (*queue, error) {
	q := s.queues[url]
	if q == nil {
		return nil, wire.Fail("com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist.")
	}
	return q, nil
}

func (s *SQS) receive(c *wire.Call, in *receiveIn) (*receiveOut, error) {
	s.mu.Lock()
	q, err := s.find(in.QueueUrl)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := c.May(q.arn); err != nil {
		return nil, err
	}
	if in.MaxNumberOfMessages < 0 || in.MaxNumberOfMessages > 10 || in.WaitTimeSeconds < 0 || in.WaitTimeSeconds > 20 {
		return nil, wire.Fail("InvalidParameterValue", "MaxNumberOfMessages must be between 1 and 10, WaitTimeSeconds between 0 and 20")
	}
	wait := time.Duration(in.WaitTimeSeconds) * time.Second
	if s.Longest > 0 {
		wait = min(wait, s.Longest)
	}
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		out, news := s.visible(q, in)
		if len(out.Messages) > 0 {
			return out, nil
		}
		select {
		case <-news:
		case <-end.C:
			return out, nil
		}
	}
}

func (s *SQS) visible(q *queue, in *receiveIn) (*receiveOut, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hide := visibility
	if in.VisibilityTimeout != nil {
		hide = time.Duration(*in.VisibilityTimeout) * time.Second
	}
	out := &receiveOut{}
	for _, m := range q.messages {
		if len(out.Messages) >= max(in.MaxNumberOfMessages, 1) {
			break
		}
		if time.Now().Before(m.hidden) {
			continue
		}
		m.hidden, m.handle = time.Now().Add(hide), uuid.NewString()
		m.received++
		sum := md5.Sum([]byte(m.body)) //nolint:gosec // what the protocol says
		out.Messages = append(out.Messages, received{m.id, m.handle, hex.EncodeToString(sum[:]), m.body})
	}
	return out, s.news
}

type entry struct{ Id, ReceiptHandle string }

type removeIn struct {
	QueueUrl string
	Entries  []entry
}

type done struct{ Id string }

type refused struct {
	Id          string
	SenderFault bool
	Code        string
	Message     string
}

type removeOut struct {
	Successful []done
	Failed     []refused
}

func (s *SQS) remove(c *wire.Call, in *removeIn) (*removeOut, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	// AWS asks for the right to delete one message.
	c.Operation = "DeleteMessage"
	err = c.May(q.arn)
	c.Operation = "DeleteMessageBatch"
	if err != nil {
		return nil, err
	}
	if len(in.Entries) == 0 || len(in.Entries) > 10 {
		return nil, wire.Fail("com.amazonaws.sqs#EmptyBatchRequest", "a batch has 1 to 10 entries")
	}
	out := &removeOut{Successful: []done{}, Failed: []refused{}}
	for _, e := range in.Entries {
		if !q.drop(e.ReceiptHandle) {
			out.Failed = append(out.Failed, refused{e.Id, true, "ReceiptHandleIsInvalid", "The input receipt handle is invalid."})
			continue
		}
		out.Successful = append(out.Successful, done{e.Id})
	}
	return out, nil
}

// drop deletes a message, or makes it visible once more.
func (q *queue) drop(handle string) bool {
	for i, m := range q.messages {
		if m.handle != handle {
			continue
		}
		if m.again {
			m.again, m.hidden = false, time.Time{}
			return true
		}
		q.messages = append(q.messages[:i], q.messages[i+1:]...)
		return true
	}
	return false
}

package wire

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

const (
	contentType = "application/x-amz-json-1.1"
	maxRequest  = 1 << 20
)

// Options of a [Server].
type Options struct {
	Region  string // "" is us-east-1
	Account string // "" is 111122223333
	// Principals are the callers by access key id; signatures are verified.
	// nil: whoever signs is the account's root, whatever the key.
	Principals map[string]Principal
	// Unlimited switches the documented rates off.
	Unlimited bool
}

// Server stands in for AWS at one address, for any number of APIs. It is safe
// for concurrent use.
type Server struct {
	o        Options
	services []Service

	mu      sync.Mutex
	buckets map[string]*rate.Limiter // by account, service and bucket
	faults  []*Fault
	calls   []Call
	roles   map[string]Principal // by access key id: credentials that were handed out
}

// New serves these APIs.
func New(o Options, services ...Service) *Server {
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Account == "" {
		o.Account = "111122223333"
	}
	return &Server{o: o, services: services, buckets: map[string]*rate.Limiter{}, roles: map[string]Principal{}}
}

// Region is where the server stands.
func (s *Server) Region() string { return s.o.Region }

// Account is that of callers without a principal of their own.
func (s *Server) Account() string { return s.o.Account }

// Grant adds a caller, such as a task's role.
func (s *Server) Grant(accessKeyID string, p Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[accessKeyID] = p
}

// Call is one request and what became of it.
type Call struct {
	Service   string // signing name
	Operation string
	Resource  string            // ARN that was asked for; empty: the request did not get so far
	Context   map[string]string // condition keys of IAM
	Principal Principal
	Region    string
	At        time.Time
	Besides   []Access // what AWS asked the policy for besides the call itself
	Error     string   // code; empty: answered

	server *Server
}

// Action is the call in IAM's words.
func (c *Call) Action() string { return c.Service + ":" + c.Operation }

// Calls are all so far, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Count is how many calls of an operation were answered without error.
func (s *Server) Count(operation string) int {
	n := 0
	for _, c := range s.Calls() {
		if c.Operation == operation && c.Error == "" {
			n++
		}
	}
	return n
}

// Throttled is how many calls were refused for their rate.
func (s *Server) Throttled() int {
	n := 0
	for _, c := range s.Calls() {
		if c.Error == "ThrottlingException" {
			n++
		}
	}
	return n
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		Answer(w, "message", nil, Fail("SerializationException", "the request can't be read: %v", err))
		return
	}
	svc, op := s.find(r)
	c := &Call{Service: svc.Signing, Operation: op, Region: s.o.Region, At: time.Now(), server: s, Context: map[string]string{}}
	err = s.prepare(c, svc, r, body)
	f := s.fault(c)
	if err == nil {
		err = f.before(r.Context())
	}
	var out any
	plain := svc.Plain != nil && op == svc.PlainName
	switch {
	case err != nil:
	case !plain:
		out, err = s.do(c, svc, op, body)
	case svc.PlainResource != "":
		err = c.May(svc.PlainResource)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		c.Error = e.Code
	} else if err != nil {
		c.Error = "InternalFailure"
	}
	s.record(*c)
	f.after(w, func(w http.ResponseWriter) {
		if plain {
			svc.Plain(c, w, r, body, err)
			return
		}
		Answer(w, svc.Text, out, err)
	})
}

// find is the API and the operation that a request is for.
func (s *Server) find(r *http.Request) (Service, string) {
	target := r.Header.Get("X-Amz-Target")
	signed, _ := parseAuthorization(r.Header.Get("Authorization"))
	for _, svc := range s.services {
		if op, ok := strings.CutPrefix(target, svc.Target); ok && svc.Target != "" && target != "" {
			return svc, op
		}
		if target == "" && svc.Plain != nil && signed.service == svc.Signing {
			return svc, svc.PlainName
		}
	}
	return Service{Text: "message"}, target
}

// prepare does what comes before every operation: who calls, and how fast.
func (s *Server) prepare(c *Call, svc Service, r *http.Request, body []byte) error {
	p, err := s.authenticate(r, body, svc.Signing)
	if err != nil {
		return err
	}
	c.Principal = p
	if svc.Plain != nil && c.Operation == svc.PlainName {
		return nil
	}
	op, ok := svc.Operations[c.Operation]
	if !ok || r.Method != http.MethodPost {
		return Fail("UnknownOperationException", "%s %q is not an operation of this stand-in", r.Method, r.Header.Get("X-Amz-Target"))
	}
	limit, limited := svc.Rates[op.bucket]
	if s.o.Unlimited || !limited {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := p.Account + "/" + svc.Signing + "/" + op.bucket
	b := s.buckets[key]
	if b == nil {
		b = rate.NewLimiter(rate.Limit(limit), max(1, int(limit)))
		s.buckets[key] = b
	}
	if !b.Allow() {
		return Fail("ThrottlingException", "Rate exceeded")
	}
	return nil
}

func (s *Server) do(c *Call, svc Service, name string, body []byte) (any, error) {
	op := svc.Operations[name]
	in, err := op.Input(body, false)
	if err != nil {
		return nil, Fail("SerializationException", "%v", err)
	}
	return op.do(c, in)
}

func (s *Server) record(c Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, c)
}

// Answer writes what came of a request.
func Answer(w http.ResponseWriter, text string, out any, err error) {
	w.Header().Set("X-Amzn-Requestid", uuid.NewString())
	w.Header().Set("Content-Type", contentType)
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			e = &Error{Code: "InternalFailure", Text: err.Error(), Status: http.StatusInternalServerError}
		}
		status := e.Status
		if status == 0 {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		w.Write(e.Encode(text))
		return
	}
	body, err := json.Marshal(out)
	if err != nil {
		Answer(w, text, nil, err)
		return
	}
	if string(body) == "null" {
		body = []byte("{}")
	}
	w.Write(body)
}

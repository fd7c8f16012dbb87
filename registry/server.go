// Package registry is a server that speaks the AWS Cloud Map API, so that
// unchanged AWS SDKs work against a laptop.
//
// It owns namespaces, services, instances and operations, and their stores.
// It must not know the mesh nor Envoy. Start reading at [Server], then
// operations.go, which lists what it answers.
package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
)

const (
	targetPrefix = "Route53AutoNaming_v20170314."
	contentType  = "application/x-amz-json-1.1"
	maxRequest   = 64 << 10 // far above the largest valid request (5,000 characters of attributes)
)

// Options of a [Server].
type Options struct {
	Region  string // in ARNs; default us-east-1
	Account string // in ARNs; default 000000000000
	Log     *slog.Logger
}

// Server answers the Cloud Map API at any host and any path. It is safe for
// concurrent use.
type Server struct {
	o     Options
	store Store

	mu         sync.RWMutex
	namespaces map[string]*namespace // by id
	services   map[string]*service   // by id
	operations map[string]*operation // by id
	watchers   map[chan struct{}]bool
}

// New reads the store. The server does not close it.
func New(store Store, o Options) (*Server, error) {
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Account == "" {
		o.Account = "000000000000"
	}
	s := &Server{
		o: o, store: store, namespaces: map[string]*namespace{}, services: map[string]*service{},
		operations: map[string]*operation{}, watchers: map[chan struct{}]bool{},
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("load registry: %w", err)
	}
	return s, nil
}

// apiError is an error of the API: HTTP 400 with its type.
type apiError struct {
	Type  string
	Text  string
	Extra map[string]string // further members of the answer
}

func (e *apiError) Error() string { return e.Type + ": " + e.Text }

func fail(kind, format string, args ...any) error {
	return &apiError{Type: kind, Text: fmt.Sprintf(format, args...)}
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", uuid.NewString())
	if r.Method == http.MethodGet && r.URL.Path == "/healthz" {
		io.WriteString(w, "ok\n")
		return
	}
	out, err := s.call(w, r)
	status := http.StatusOK
	if err != nil {
		status, out = s.refusal(err)
	}
	body, err := json.Marshal(out)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"__type":"InternalFailure"}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	w.Write(body)
}

func (s *Server) call(w http.ResponseWriter, r *http.Request) (any, error) {
	name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	op, known := apiOperations[name]
	if r.Method != http.MethodPost || !ok || !known {
		return nil, fail("UnknownOperationException", "X-Amz-Target %q with %s; this registry answers POST with %s followed by one of: %s",
			r.Header.Get("X-Amz-Target"), r.Method, targetPrefix, strings.Join(operationNames(), ", "))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if tooLarge, is := errors.AsType[*http.MaxBytesError](err); is {
		return nil, fail("SerializationException", "the request is larger than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, fail("SerializationException", "read the request: %v", err)
	}
	return op(s, body)
}

func (s *Server) refusal(err error) (int, any) {
	e, ok := errors.AsType[*apiError](err)
	if !ok {
		s.o.Log.Error("request failed", "error", err.Error())
		return http.StatusInternalServerError, map[string]string{"__type": "InternalFailure", "Message": err.Error()}
	}
	out := map[string]string{"__type": e.Type, "Message": e.Text}
	for k, v := range e.Extra {
		out[k] = v
	}
	return http.StatusBadRequest, out
}

func operationNames() []string {
	names := make([]string, 0, len(apiOperations))
	for n := range apiOperations {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Changed returns a channel that is closed at the next change of anything
// that discovery can see.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{})
	s.watchers[c] = true
	return c
}

func (s *Server) wake() {
	for c := range s.watchers {
		close(c)
	}
	clear(s.watchers)
}

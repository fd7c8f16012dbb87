package registry

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"patchbay/registry/cloudmap"
	"patchbay/registry/sigv4"
	"patchbay/registry/watch"
)

const (
	targetPrefix = cloudmap.TargetPrefix + "."
	contentType  = "application/x-amz-json-1.1"
	// maxRequest is above the largest valid request, which is
	// UpdateServiceAttributes with 30 × 1,279 characters of up to four bytes.
	maxRequest = 256 << 10
)

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", uuid.NewString())
	if r.Method == http.MethodGet && r.URL.Path == "/healthz" {
		s.healthz(w)
		return
	}
	body, err := read(w, r)
	if err == nil {
		err = s.admit(r, body)
	}
	if err == nil && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, watch.Path) {
		s.events.ServeHTTP(w, r)
		return
	}
	name, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	var out any
	if err == nil {
		out, err = s.call(r.Method, name, body)
	}
	s.answer(w, name, out, err)
}

func (s *Server) healthz(w http.ResponseWriter) {
	if err := s.load(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n") // the caller has gone if this fails
}

func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if tooLarge, is := errors.AsType[*http.MaxBytesError](err); is {
		return nil, cloudmap.TooLarge(tooLarge.Limit)
	}
	if err != nil {
		return nil, cloudmap.Serialization("The request could not be read: %v", err)
	}
	return body, nil
}

// admit checks the signature, and that a key that only reads does that.
func (s *Server) admit(r *http.Request, body []byte) error {
	if s.o.Keys == nil {
		return nil
	}
	key, err := s.o.Keys.Verify(r, body, time.Now())
	if refusal, is := errors.AsType[*sigv4.Refusal](err); is {
		return cloudmap.Denied(refusal.Code, "%s", refusal.Reason)
	}
	if err != nil {
		return err
	}
	name, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	if key.ReadOnly && operations[name].writes {
		return cloudmap.Denied("AccessDeniedException", "The access key is read-only; %s writes.", name)
	}
	return nil
}

func (s *Server) call(method, name string, body []byte) (any, error) {
	op, known := operations[name]
	if method != http.MethodPost || !known {
		return nil, cloudmap.UnknownOperation(method, name, Operations())
	}
	in, err := op.decode(body)
	if err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	return op.serve(s, in)
}

// answer writes what an operation has returned. An error that is not the API's
// is our own failure: the caller hears that, the log why.
func (s *Server) answer(w http.ResponseWriter, name string, out any, err error) {
	status, kind := http.StatusOK, ""
	if err != nil {
		e, is := errors.AsType[*cloudmap.Error](err)
		if !is {
			s.o.Log.Error("request failed", "operation", name, "error", err.Error())
			e = cloudmap.Internal()
		}
		status, kind, out = e.Status, e.Type, e
	}
	if _, known := operations[name]; !known {
		name = "unknown"
	}
	s.o.Metrics.requests.WithLabelValues(name, kind).Inc()
	body, err := json.Marshal(out)
	if err != nil { // no answer holds what can't be encoded
		s.o.Log.Error("encode an answer", "operation", name, "error", err.Error())
		status, body = http.StatusInternalServerError, []byte(`{"__type":"InternalFailure"}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller has gone if this fails
}

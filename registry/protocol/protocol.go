// Package protocol is the server's side of awsJson1_1, as far as the API of
// Cloud Map needs it: one POST with the operation's name in a header, JSON in
// and out, errors with a __type.
//
// It owns what a request looks like, who may make it and what the answer looks
// like. It must not know what the operations do.
//
// Start reading at [Handler.ServeHTTP].
package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"patchbay/registry/cloudmap"
	"patchbay/registry/sigv4"
	"patchbay/registry/store"
)

// Request is one of package cloudmap's.
type Request interface{ Check(*cloudmap.Problems) }

// Operation is one of the API's.
type Operation struct {
	// Writes says that a read-only key may not call it.
	Writes bool
	// Empty is a request to be decoded into.
	Empty func() Request
	// Serve answers a request that has been checked.
	Serve func(Request) (any, error)
}

// Reads makes an operation of a method. R is the request, without the pointer;
// start is what it holds before it is decoded.
func Reads[R any, P interface {
	*R
	Request
}, A any](serve func(P) (A, error), start R) Operation {
	return Operation{
		Empty: func() Request { r := start; return P(&r) },
		Serve: func(r Request) (any, error) { return serve(r.(P)) },
	}
}

// Writes is Reads for an operation that changes something.
func Writes[R any, P interface {
	*R
	Request
}, A any](serve func(P) (A, error), start R) Operation {
	o := Reads(serve, start)
	o.Writes = true
	return o
}

const (
	targetPrefix = cloudmap.TargetPrefix + "."
	contentType  = "application/x-amz-json-1.1"
	// MaxRequest is above the largest valid request, which is
	// UpdateServiceAttributes with 30 × 1,279 characters of up to four bytes.
	MaxRequest = 256 << 10
)

// Handler answers operations at any host and any path. All fields but Keys and
// Others are required.
type Handler struct {
	Operations map[string]Operation
	// Keys are who may call. Nil lets everybody in.
	Keys sigv4.Keys
	// Others answer GET of a path that ends so, to whom keys let in.
	Others map[string]http.Handler
	// Ready says why nothing can be answered; nil if it can. It is what
	// GET /healthz asks, without a signature.
	Ready func() error
	// Fit says, to GET /healthz alone, why others should be asked instead.
	Fit func() error
	// Count hears of every answer: the operation, or "unknown", and the error's
	// type, or nothing.
	Count func(operation, failure string)
	Log   *slog.Logger
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", uuid.NewString())
	if r.Method == http.MethodGet && r.URL.Path == "/healthz" {
		h.healthz(w)
		return
	}
	name, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	body, err := read(w, r)
	if err == nil {
		err = h.admit(r, name, body)
	}
	if other := h.other(r); other != nil && err == nil {
		other.ServeHTTP(w, r)
		return
	}
	var out any
	if err == nil {
		out, err = h.Call(r.Method, name, body)
	}
	h.answer(w, name, out, err)
}

func (h *Handler) healthz(w http.ResponseWriter) {
	err := h.Ready()
	if err == nil {
		err = h.Fit()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n") // the caller has gone if this fails
}

func (h *Handler) other(r *http.Request) http.Handler {
	if r.Method != http.MethodGet {
		return nil
	}
	for path, other := range h.Others {
		if strings.HasSuffix(r.URL.Path, path) {
			return other
		}
	}
	return nil
}

func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest))
	if tooLarge, is := errors.AsType[*http.MaxBytesError](err); is {
		return nil, cloudmap.TooLarge(tooLarge.Limit)
	}
	if err != nil {
		return nil, cloudmap.Serialization("The request could not be read: %v", err)
	}
	return body, nil
}

// admit checks the signature, and that a key that only reads does that.
func (h *Handler) admit(r *http.Request, name string, body []byte) error {
	if h.Keys == nil {
		return nil
	}
	key, err := h.Keys.Verify(r, body, time.Now())
	if refusal, is := errors.AsType[*sigv4.Refusal](err); is {
		return cloudmap.Denied(refusal.Code, "%s", refusal.Reason)
	}
	if err != nil {
		return err
	}
	if key.ReadOnly && h.Operations[name].Writes {
		return cloudmap.Denied("AccessDeniedException", "The access key is read-only; %s writes.", name)
	}
	return nil
}

// Call answers one operation. An error is one of the API's, or our own failure.
func (h *Handler) Call(method, name string, body []byte) (any, error) {
	op, known := h.Operations[name]
	if method != http.MethodPost || !known {
		return nil, cloudmap.UnknownOperation(method, name, slices.Sorted(maps.Keys(h.Operations)))
	}
	in, err := op.decode(body)
	if err != nil {
		return nil, err
	}
	if err := h.Ready(); err != nil {
		return nil, err
	}
	return op.Serve(in)
}

// decode reads a request's body. Members that are not known are ignored, as
// AWS does.
func (o Operation) decode(body []byte) (Request, error) {
	in := o.Empty()
	if len(bytes.TrimSpace(body)) > 0 {
		if err := json.Unmarshal(body, in); err != nil {
			return nil, cloudmap.Serialization("The request is not as the API describes it: %v", err)
		}
	}
	var p cloudmap.Problems
	in.Check(&p)
	return in, p.Err()
}

// answer writes what an operation has returned. Of our own failure the caller
// hears that there was one, the log why.
func (h *Handler) answer(w http.ResponseWriter, name string, out any, err error) {
	status, failure := http.StatusOK, ""
	if err != nil {
		e, is := errors.AsType[*cloudmap.Error](err)
		if !is {
			h.Log.Error("request failed", "operation", name, "error", err.Error())
			e = cloudmap.Internal()
			if errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrConflict) {
				e = cloudmap.Unavailable()
			}
		}
		status, failure, out = e.Status, e.Type, e
	}
	if _, known := h.Operations[name]; !known {
		name = "unknown"
	}
	h.Count(name, failure)
	body, err := json.Marshal(out)
	if err != nil { // no answer holds what can't be encoded
		h.Log.Error("encode an answer", "operation", name, "error", err.Error())
		status, body = http.StatusInternalServerError, []byte(`{"__type":"InternalFailure"}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller has gone if this fails
}

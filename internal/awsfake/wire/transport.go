package wire

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
)

// Client calls the server without a network: for SDK clients in a test of
// fake time, whose goroutines must all be the test's own.
func (s *Server) Client() *http.Client { return &http.Client{Transport: inProcess{s}} }

type inProcess struct{ handler http.Handler }

// RoundTrip implements [http.RoundTripper].
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &recorder{ResponseRecorder: httptest.NewRecorder()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // what was panicked with, not an error that was wrapped
				panic(p)
			} else if p != nil {
				w.mu.Lock()
				w.broken = true
				w.mu.Unlock()
			}
		}()
		t.handler.ServeHTTP(w, in)
	}()
	select {
	case <-done:
	case <-r.Context().Done():
		<-done // handlers end with their context
		return nil, r.Context().Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken && !w.flushed {
		return nil, io.ErrUnexpectedEOF
	}
	resp := w.Result()
	resp.Request = r
	if w.broken {
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(w.Body.Bytes()), brokenOff{}))
	}
	return resp, nil
}

type recorder struct {
	*httptest.ResponseRecorder
	mu              sync.Mutex
	broken, flushed bool
}

// Flush implements [http.Flusher].
func (r *recorder) Flush() { r.flushed = true }

type brokenOff struct{}

func (brokenOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

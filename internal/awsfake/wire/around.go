package wire

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// Around puts a server of another API, which knows its own rules, behind the
// same faults and into the same record: for what is not a [Service]. Signing is
// the API's name in signatures, target what stands before the operation in
// X-Amz-Target.
func (s *Server) Around(signing, target string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), target)
		if !ok {
			h.ServeHTTP(w, r)
			return
		}
		c := Call{Service: signing, Operation: op, Region: s.o.Region, At: time.Now(), server: s}
		f := s.fault(&c)
		if err := f.before(r.Context()); err != nil {
			if e, is := errors.AsType[*Error](err); is {
				c.Error = e.Code
			}
			s.record(c)
			Answer(w, "Message", nil, err)
			return
		}
		f.after(w, func(w http.ResponseWriter) {
			seen := &statusWriter{ResponseWriter: w}
			h.ServeHTTP(seen, r)
			if seen.status >= http.StatusBadRequest {
				c.Error = http.StatusText(seen.status)
			}
			s.record(c)
		})
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Clear takes all faults away.
func (s *Server) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

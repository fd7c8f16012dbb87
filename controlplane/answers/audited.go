package answers

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"patchbay/audit"
)

// Audited is the admin interface, which has the audit log told of every action
// and of everybody who was refused.
func Audited(h http.Handler, record func(audit.Event)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			h.ServeHTTP(w, r) // reading, and gRPC
			return
		}
		seen := &statusWriter{ResponseWriter: w}
		seen.begun = sync.OnceFunc(func() { auditCall(record, r, seen.status) })
		h.ServeHTTP(seen, r)
		seen.WriteHeader(http.StatusOK) // of an answer without a word
	})
}

// auditCall records an action, and every caller without its token, when its
// answer begins: some go on for long.
func auditCall(record func(audit.Event), r *http.Request, status int) {
	if r.Method != http.MethodPost && status != http.StatusUnauthorized {
		return
	}
	e := audit.Event{Kind: audit.AdminCall, Actor: "operator", Method: r.Method + " " + r.URL.Path, Subject: r.URL.RawQuery, Decision: audit.Allowed, Reason: fmt.Sprint("status ", status)}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		e.Peer = host
	}
	if t := r.TLS; t != nil && len(t.VerifiedChains) > 0 {
		e.Actor += " " + t.VerifiedChains[0][0].Subject.String()
	}
	if status >= http.StatusBadRequest {
		e.Decision = audit.Denied
	}
	if status == http.StatusUnauthorized {
		e.Actor = ""
	}
	record(e)
}

type statusWriter struct {
	http.ResponseWriter
	status int // 0 before the answer begins
	begun  func()
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	w.begun()
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController through.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

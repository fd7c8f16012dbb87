package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"patchbay/identity/strangers"
)

// What a connection may take. Answers may last for ever: some are streams.
const (
	headerTime = 10 * time.Second // for the header of a request
	bodyTime   = 30 * time.Second // and for its body
	idleTime   = 2 * time.Minute  // between two requests
)

// Serve serves h, by HTTP/1.1 and HTTP/2, until ctx ends. What is wrong with
// single connections is logged for debugging alone: strangers can cause it.
// Those who have not yet been let through by a [Handler] take no more than a
// part of the process's descriptors, which the mesh needs.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	s := &http.Server{
		Handler: timely(h), ReadHeaderTimeout: headerTime, IdleTimeout: idleTime,
		Protocols: &http.Protocols{}, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true) // for gRPC on the admin port
	limit(s, strangers.New(strangers.Crowd()))
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return ctx.Err()
}

// timely bounds how long a body may be on its way. HTTP/2 has streams for it,
// which are of one who asks and end with the answer.
func timely(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // the server's own writers can
		}
		h.ServeHTTP(w, r)
	})
}

// leaving is the key of what a connection's context holds: it is no stranger's
// any more.
type leaving struct{}

// known says that the caller of a request has been let through.
func known(ctx context.Context) {
	if leave, ok := ctx.Value(leaving{}).(func()); ok {
		leave()
	}
}

// limit has each connection enter the room, until it is known or ends.
func limit(s *http.Server, room *strangers.Room) {
	var all sync.Map // net.Conn → func()
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		at := c
		if t, ok := c.(*tls.Conn); ok {
			at = t.NetConn() // to close it takes no word with the other end
		}
		leave, _ := room.Enter(at)
		all.Store(c, leave)
		return context.WithValue(ctx, leaving{}, leave)
	}
	s.ConnState = func(c net.Conn, state http.ConnState) {
		if state != http.StateClosed && state != http.StateHijacked {
			return
		}
		if leave, ok := all.LoadAndDelete(c); ok {
			leave.(func())()
		}
	}
}

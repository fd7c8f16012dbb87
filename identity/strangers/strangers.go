// Package strangers bounds the connections of those who have not said who they
// are, so that no flood of them takes the memory and the descriptors that the
// mesh needs.
//
// It owns who has to go: the one that has been here longest. Whoever has a
// certificate shows it within milliseconds, so a flood meets others of the
// flood. It must not know what a certificate is. It is all in [Room].
package strangers

import (
	"container/list"
	"net"
	"sync"
	"syscall"
)

// most is how many connections of a port may be of strangers: as many Envoys as
// come at once after an outage, each some 20 kB.
const most = 4000

// Crowd is how many strangers a port has room for: that many, or the quarter of
// the descriptors that there are.
func Crowd() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err == nil && l.Cur/4 < most {
		return int(max(l.Cur/4, 1)) //nolint:gosec // below most
	}
	return most
}

// Room holds strangers up to a number. It is safe for concurrent use.
type Room struct {
	max   int
	mu    sync.Mutex
	order *list.List // of net.Conn, the one that came first in front
}

// New is a room for that many, 1 at least.
func New(limit int) *Room { return &Room{max: limit, order: list.New()} }

// Enter lets c in, which stays until leave is called, once or more. Where the
// room was full, the one that was here longest is closed, and returned.
func (r *Room) Enter(c net.Conn) (leave func(), closed net.Conn) {
	r.mu.Lock()
	if r.order.Len() >= r.max {
		closed, _ = r.order.Remove(r.order.Front()).(net.Conn)
	}
	place := r.order.PushBack(c)
	r.mu.Unlock()
	if closed != nil {
		closed.Close()
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.order.Remove(place) // nothing, where it has been taken out
	}, closed
}

// Until is c, whose Close also calls leave.
func Until(c net.Conn, leave func()) net.Conn { return &stranger{c, leave} }

type stranger struct {
	net.Conn
	leave func()
}

func (s *stranger) Close() error {
	s.leave()
	return s.Conn.Close()
}

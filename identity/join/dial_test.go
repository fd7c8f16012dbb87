package join_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/identity/join"
)

// several is a control plane of two replicas, of which the second is the rig's.
type several struct {
	*rig
	first func() (net.Conn, error)

	mu    sync.Mutex
	tried []string
}

func (s *several) dial(ctx context.Context, addr string) (net.Conn, error) {
	s.mu.Lock()
	s.tried = append(s.tried, addr)
	s.mu.Unlock()
	if addr == "a:1" {
		return s.first()
	}
	return s.rig.dial(ctx, addr)
}

func (s *several) member(state string) *join.Member {
	return join.New(join.Config{
		Dir: s.dir("backend"), Control: join.NewAddresses("a:1", "b:1"), Task: "t1", State: filepath.Join(s.base, state), Log: s.agent.logger(), Dial: s.dial,
	})
}

// TestFirstOfSeveral: a replica that refuses, or that takes the connection and
// then says nothing, is passed over.
func TestFirstOfSeveral(t *testing.T) {
	for name, first := range map[string]func(*several) func() (net.Conn, error){
		"refuses": func(*several) func() (net.Conn, error) { return func() (net.Conn, error) { return nil, errAway } },
		"hangs": func(s *several) func() (net.Conn, error) {
			return func() (net.Conn, error) {
				here, there := net.Pipe()
				s.t.Cleanup(func() { there.Close() })
				return here, nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				s := &several{rig: r}
				s.first = first(s)
				r.token(r.request("backend"))
				if err := s.member("state").Join(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := strings.Join(s.tried, " "); got != "a:1 b:1" {
					t.Errorf("tried %s", got)
				}
				if n := r.agent.count("level=WARN"); n != 0 {
					t.Errorf("%d warnings:\n%s", n, r.agent)
				}
			})
		})
	}
}

// TestFailed: after a replica that can't answer the next comes first, and after
// a refusal the same one, which another would repeat.
func TestFailed(t *testing.T) {
	for code, want := range map[codes.Code]string{codes.Unavailable: "b:1", codes.DeadlineExceeded: "b:1", codes.PermissionDenied: "a:1", codes.Unauthenticated: "a:1"} {
		bubble(t, func(t *testing.T, r *rig) {
			a := join.NewAddresses("a:1", "b:1")
			a.Failed(status.Error(code, "x"))
			s := &several{rig: r, first: func() (net.Conn, error) { return r.dial(t.Context(), "") }}
			r.token(r.request("backend"))
			m := join.New(join.Config{Dir: r.dir("backend"), Control: a, Task: "t1", State: filepath.Join(r.base, code.String()), Log: r.agent.logger(), Dial: s.dial})
			if err := m.Join(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(s.tried, " "); got != want || a.String() != "a:1,b:1" {
				t.Errorf("%s: tried %s of %s; want %s", code, got, a, want)
			}
		})
	}
}

package join_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// TestIPv4First: a replica is connected to by IPv4, and by IPv6 where that is
// refused, not there, or takes too long.
func TestIPv4First(t *testing.T) {
	refused, none := errors.New("refused"), &net.OpError{Op: "dial", Err: &net.AddrError{Err: "no suitable address found"}}
	hangs := errors.New("hangs")
	for name, x := range map[string]struct {
		four, six error // nil: it connects
		want      string
		err       error
	}{
		"both":            {nil, nil, "tcp4", nil},
		"IPv4 refuses":    {refused, nil, "tcp6", nil},
		"IPv4 hangs":      {hangs, nil, "tcp6", nil},
		"no IPv4 address": {none, nil, "tcp6", nil},
		"no IPv6 address": {refused, none, "", refused},
		"IPv6 refuses":    {none, refused, "", refused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				made := map[string]net.Conn{}
				var mu sync.Mutex
				got, err := join.InTurn(t.Context(), "control:1", func(ctx context.Context, network, _ string) (net.Conn, error) {
					end := map[string]error{"tcp4": x.four, "tcp6": x.six}[network]
					if errors.Is(end, hangs) {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					if end != nil {
						return nil, end
					}
					mu.Lock()
					defer mu.Unlock()
					made[network], _ = net.Pipe()
					return made[network], nil
				})
				synctest.Wait()
				if !errors.Is(err, x.err) || x.err == nil && (got == nil || got != made[x.want]) {
					t.Errorf("%v, %v of %v", got, err, made)
				}
			})
		})
	}
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

// TestTheOtherPort: an agent that is given the port for Envoys is told so,
// whether it has a certificate or not.
func TestTheOtherPort(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.token(r.request("backend"))
		r.mu.Lock()
		agents := r.lis
		r.mu.Unlock()
		other := r.port(false)
		defer other()
		m := r.member("backend")
		end := r.running(m.Join)
		const want = "are --xds and --agent swapped?"
		for range 100 { // the alert can come too late for one attempt
			time.Sleep(time.Minute)
			if r.agent.count(want) > 0 {
				break
			}
		}
		r.says("agent's log", r.agent.String(), "certificate required", want)
		r.mu.Lock()
		envoys := r.lis
		r.lis = agents
		r.mu.Unlock()
		time.Sleep(20 * time.Second)
		if err := end(); err != nil || m.Failure() != "" {
			t.Fatalf("not joined: %v, %s", err, m.Failure())
		}
		r.mu.Lock()
		r.lis = envoys
		r.mu.Unlock()
		_, err := r.connect(m, time.Second)
		if err == nil || !strings.Contains(err.Error(), "unknown service") || !strings.Contains(join.Swapped(err), want) {
			t.Errorf("the stream's end: %v", err)
		}
		if hint := join.Swapped(errAway); hint != "" {
			t.Errorf("%v: %q", errAway, hint)
		}
	})
}

package xds

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/xds/delta"
	"patchbay/xds/leds"
	"patchbay/xds/views"
)

// link is the network between an Envoy and its control plane: it can be cut
// and slowed down.
type link struct {
	lis net.Listener

	mu    sync.Mutex
	to    string
	conns []net.Conn
	pause time.Time // nothing is forwarded before
}

func newLink(t *testing.T) *link {
	t.Helper()
	l := &link{}
	l.lis, _ = listen(t)
	go func() {
		for {
			conn, err := l.lis.Accept()
			if err != nil {
				return
			}
			l.mu.Lock()
			to, err := net.Dial("tcp", l.to)
			if err != nil {
				conn.Close()
				l.mu.Unlock()
				continue
			}
			l.conns = append(l.conns, conn, to)
			l.mu.Unlock()
			go l.copy(to, conn)
			go l.copy(conn, to)
		}
	}()
	t.Cleanup(func() { l.lis.Close(); l.cut() })
	return l
}

func (l *link) copy(dst, src net.Conn) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 4096)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		wait := time.Until(l.pause)
		l.mu.Unlock()
		time.Sleep(wait)
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (l *link) port() uint16 { return uint16(l.lis.Addr().(*net.TCPAddr).Port) }

func (l *link) slow(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pause = time.Now().Add(d)
}

// cut closes every connection.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

// connect sends new connections to a control plane.
func (l *link) connect(c *control) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = fmt.Sprintf("127.0.0.1:%d", c.port)
}

// soak is a history run against a real Envoy.
type soak struct {
	*history
	mode   leds.Mode
	c      *control
	link   *link
	envoy  *envoytest.Envoy
	at     map[string]int
	unsure bool // something was rejected since everything was well
	did    []string
}

// TestAnyHistoryOnTheRealEnvoy runs a random history against a real Envoy and
// compares it with the registry each time that all is quiet.
// PATCHBAY_SOAK_OPS is how many steps, PATCHBAY_SOAK_SEED which history.
func TestAnyHistoryOnTheRealEnvoy(t *testing.T) {
	for _, mode := range []leds.Mode{leds.Off, leds.On} {
		t.Run("leds "+string(mode), func(t *testing.T) {
			runSoak(t, mode, fromEnv("PATCHBAY_SOAK_OPS", 300), uint64(fromEnv("PATCHBAY_SOAK_SEED", 1)))
		})
	}
}

func runSoak(t *testing.T, mode leds.Mode, ops int, seed uint64) {
	var aliases []mesh.Alias
	for n := range strings.SplitSeq("abcdef", "") {
		aliases = append(aliases, freeAlias(t, n))
	}
	s := &soak{history: newHistory(t, seed, 60, aliases, mode != leds.Off), mode: mode, link: newLink(t), at: map[string]int{}}
	s.c = startControl(t, 0, Collections(mode))
	s.link.connect(s.c)
	s.store(s.c.store)
	s.envoy = (&control{port: s.link.port()}).task(t, "prod/web/1", "")
	began := time.Now()
	for i := range ops {
		s.step(t)
		s.sample(t)
		if i%25 == 24 {
			s.settled(t)
		}
		if t.Failed() {
			t.Fatalf("seed %d, after %d steps, the last: %q", seed, i+1, s.did[max(0, len(s.did)-30):])
		}
	}
	s.settled(t)
	stats := s.envoy.Stats(t)
	t.Logf("seed %d: %d steps in %v; %v updates of clusters, %v rejected, %v collections in the end", seed, ops, time.Since(began).Round(time.Second),
		stats["cluster_manager.cluster_modified"], s.envoy.Sum(t, "cluster.", ".update_rejected"), len(s.c.types("leds").Resources))
}

func fromEnv(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

func (s *soak) step(t *testing.T) {
	t.Helper()
	note := func(what string) { s.did = append(s.did, what) }
	switch what := s.rng.IntN(40); {
	case what < 30:
		for range 1 + s.rng.IntN(3) {
			note(s.change())
		}
		s.store(s.c.store)
	case what < 33:
		s.link.slow(time.Duration(s.rng.IntN(200)) * time.Millisecond)
		note("slow")
	case what < 35:
		s.link.cut()
		note("cut")
	case what < 36:
		s.c.stop()
		s.c = startControl(t, 0, Collections(s.mode))
		s.link.connect(s.c)
		s.link.cut()
		s.poisoned = map[string]bool{}
		s.store(s.c.store)
		note("another control plane")
	case what < 38:
		if all := s.c.cache.Status(); len(all) > 0 {
			s.unsure = true
			note(s.poison(s.c.cache, all[0].View))
		}
	default:
		time.Sleep(time.Duration(s.rng.IntN(60)) * time.Millisecond)
	}
}

// sample checks that the Envoy is in a state that the registry had.
func (s *soak) sample(t *testing.T) {
	t.Helper()
	for cluster, hosts := range s.hosts(t) {
		if err := s.seen(cluster, hosts, s.at); err != nil && !s.unsure {
			t.Error(err)
		}
	}
}

func (s *soak) hosts(t *testing.T) map[string][]string {
	t.Helper()
	all := s.envoy.Clusters(t)
	delete(all, "xds")
	for _, hosts := range all {
		slices.Sort(hosts)
	}
	return all
}

// settled waits until the Envoy is as the registry is.
func (s *soak) settled(t *testing.T) {
	t.Helper()
	want := s.expected(views.View{Namespace: "prod", Wiring: mesh.Bind})
	envoytest.Eventually(t, 30*time.Second, func() error {
		hosts := map[string][]string{}
		for n, v := range s.services {
			hosts[n+".prod"] = hostsOf(v)
		}
		have := s.hosts(t)
		for cluster := range s.poisoned {
			delete(hosts, cluster)
			delete(have, cluster)
		}
		dump := s.envoy.Dump(t)
		versions := map[delta.Ref]string{}
		for ref, v := range dump.Versions {
			// A listener that was removed keeps its routes until it has drained.
			listens := dump.Versions[envoytest.Ref{TypeURL: delta.ListenerType, Name: ref.Name}] != ""
			if ref.TypeURL == delta.ClusterType || ref.TypeURL == delta.ListenerType || ref.TypeURL == delta.RouteType && listens {
				versions[delta.Ref(ref)] = v
			}
		}
		wanted := maps.Clone(want)
		maps.DeleteFunc(wanted, func(r delta.Ref, _ string) bool { return r.TypeURL == delta.EndpointType })
		return errors.Join(
			differ("hosts", hosts, have), differ("versions", wanted, versions), differ("warming", nil, dump.Warming), differ("errors", nil, dump.Errors))
	})
	s.unsure = len(s.poisoned) > 0
	s.did = nil
}

func differ[T any](what string, want, have T) error {
	if d := cmp.Diff(want, have); d != "" {
		return fmt.Errorf("%s (-registry +Envoy):\n%s", what, d)
	}
	return nil
}

package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"patchbay/registry/cloudmap"
	"patchbay/registry/state"
	"patchbay/registry/store"
)

// filled is a running registry with n services of 100 instances each, as the
// registrar would register them.
func filled(b *testing.B, st store.Store, n int) (s *Server, services []string) {
	b.Helper()
	s = New(st, Options{})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	b.Cleanup(func() { stop(); <-done; st.Close() })
	ns, _ := furnishHTTP(b, s)
	for i := range n {
		out := ask(b, s, "CreateService", `{"Name":"s%d","NamespaceId":"%s","HealthCheckCustomConfig":{}}`, i, ns)
		_, id, _ := strings.Cut(out, `"Id":"`)
		id, _, _ = strings.Cut(id, `"`)
		services = append(services, id)
		for k := range 100 {
			ask(b, s, "RegisterInstance", register(id, fmt.Sprintf("task-%d.web", k), k))
		}
	}
	settled(b, s)
	runtime.GC()
	b.ReportAllocs()
	return s, services
}

// settled waits until every operation has been carried out.
func settled(b *testing.B, s *Server) {
	for open := 1; open > 0; {
		if err := s.view(func(v *state.View) error { open = v.Unfinished().Len(); return nil }); err != nil {
			b.Fatal(err)
		}
		runtime.Gosched()
	}
}

func furnishHTTP(b *testing.B, s *Server) (ns, op string) {
	b.Helper()
	ask(b, s, "CreateHttpNamespace", `{"Name":"demo"}`)
	for ns == "" {
		_, id, _ := strings.Cut(ask(b, s, "ListNamespaces", `{}`), `"Id":"`)
		ns, _, _ = strings.Cut(id, `"`)
	}
	return ns, op
}

func register(svc, id string, k int) string {
	return fmt.Sprintf(`{"ServiceId":"%s","InstanceId":"%s","Attributes":{"AWS_INSTANCE_IPV4":"10.0.0.%d","AWS_INSTANCE_PORT":"15001","AVAILABILITY_ZONE_ID":"use1-az1","PATCHBAY_OWNER":"prod/backend","PATCHBAY_TASK":"task-%d","PATCHBAY_SETTINGS":"0123456789abcdef","PATCHBAY_PROTOCOL":"http","PATCHBAY_TLS":"true","PATCHBAY_LEASE_SECONDS":"15","PATCHBAY_SINCE":"1760000000123"}}`, svc, id, k%250, k)
}

// sink is a response that is thrown away, but for its status.
type sink struct {
	header http.Header
	status int
	bytes  int
}

func (w *sink) Header() http.Header         { return w.header }
func (w *sink) Write(p []byte) (int, error) { w.bytes += len(p); return len(p), nil }
func (w *sink) WriteHeader(status int)      { w.status = status }

// serve is one request without the network.
func serve(b *testing.B, s *Server, name, body string) *sink {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://cloudmap/", strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", cloudmap.TargetPrefix+"."+name)
	w := &sink{header: http.Header{}, status: 200}
	s.ServeHTTP(w, r)
	if w.status != 200 {
		b.Fatalf("%s %s: %d", name, body, w.status)
	}
	return w
}

func ask(b *testing.B, s *Server, name, body string, args ...any) string {
	b.Helper()
	if len(args) > 0 {
		body = fmt.Sprintf(body, args...)
	}
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("X-Amz-Target", cloudmap.TargetPrefix+"."+name)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != 200 {
		b.Fatalf("%s %s: %d %s", name, body, w.Code, w.Body)
	}
	return w.Body.String()
}

// sizes show that nothing grows faster than what is stored.
var sizes = []int{10, 100, 1000}

// cpu is the processor time of this process so far: unlike the clock it does
// not count what else the machine does.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, used time.Duration) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
}

func benchmarkSizes(b *testing.B, f func(b *testing.B, s *Server, services []string)) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			s, services := filled(b, &store.Memory{}, n)
			used := cpu(b)
			f(b, s, services)
			report(b, cpu(b)-used)
		})
	}
}

func BenchmarkDiscoverInstances(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, s *Server, services []string) {
		i, bytes := 0, 0
		for b.Loop() {
			bytes += serve(b, s, "DiscoverInstances", fmt.Sprintf(`{"NamespaceName":"demo","ServiceName":"s%d","MaxResults":1000,"HealthStatus":"ALL"}`, i%len(services))).bytes
			i++
		}
		b.SetBytes(int64(bytes / i))
	})
}

func BenchmarkDiscoverInstancesRevision(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, s *Server, services []string) {
		for i := 0; b.Loop(); i++ {
			serve(b, s, "DiscoverInstancesRevision", fmt.Sprintf(`{"NamespaceName":"demo","ServiceName":"s%d"}`, i%len(services)))
		}
	})
}

// Each registration is a new instance, up to a thousand of a service, and is
// carried out before the next is begun.
func BenchmarkRegisterInstance(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, s *Server, services []string) {
		for i := 0; b.Loop(); i++ {
			id := fmt.Sprintf("new-%d", i/len(services)%800)
			serve(b, s, "RegisterInstance", register(services[i%len(services)], id, i))
		}
		settled(b, s)
	})
}

// Renewals change nothing and are not written.
func BenchmarkRenewLease(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, s *Server, services []string) {
		for i := 0; b.Loop(); i++ {
			serve(b, s, "UpdateInstanceCustomHealthStatus", fmt.Sprintf(`{"ServiceId":"%s","InstanceId":"task-%d.web","Status":"HEALTHY"}`, services[i%len(services)], i%100))
		}
	})
}

// All pages of all services.
func BenchmarkListServices(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, s *Server, services []string) {
		for b.Loop() {
			for token := ""; ; {
				out := ask(b, s, "ListServices", `{"NextToken":"%s"}`, token)
				_, rest, more := strings.Cut(out, `"NextToken":"`)
				if !more {
					break
				}
				token, _, _ = strings.Cut(rest, `"`)
			}
		}
	})
}

// With bbolt and its fsync: one client, and 64 that share writes.
func BenchmarkRegisterDurably(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			st, err := store.OpenBolt(filepath.Join(b.TempDir(), "registry.db"))
			if err != nil {
				b.Fatal(err)
			}
			s := New(st, Options{})
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); _ = s.Run(ctx) }()
			b.Cleanup(func() { stop(); <-done; st.Close() })
			ns, _ := furnishHTTP(b, s)
			var services []string
			for i := range 100 {
				_, id, _ := strings.Cut(ask(b, s, "CreateService", `{"Name":"s%d","NamespaceId":"%s"}`, i, ns), `"Id":"`)
				id, _, _ = strings.Cut(id, `"`)
				services = append(services, id)
			}
			var n atomic.Int64
			used := cpu(b)
			b.SetParallelism(clients)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := int(n.Add(1))
					serve(b, s, "RegisterInstance", register(services[i%100], fmt.Sprintf("new-%d", i/100%800), i))
				}
			})
			settled(b, s)
			report(b, cpu(b)-used)
		})
	}
}

// Over HTTP on loopback, as the SDK's client would call.
func BenchmarkDiscoverOverHTTP(b *testing.B) {
	s, _ := filled(b, &store.Memory{}, 100)
	srv := httptest.NewServer(s)
	b.Cleanup(srv.Close)
	used := cpu(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, srv.URL, strings.NewReader(fmt.Sprintf(`{"NamespaceName":"demo","ServiceName":"s%d","MaxResults":1000}`, i%100)))
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("X-Amz-Target", cloudmap.TargetPrefix+"."+"DiscoverInstances")
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	report(b, cpu(b)-used)
}

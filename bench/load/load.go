package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"patchbay/bench"
)

// connections are how many a client opens: applications that speak HTTP/2 have
// few.
var connections = map[string]int{"http": 64, "http2": 4, "grpc": 4, "tcp": 64}

// Result is the outcome of an open loop.
type Result struct {
	Sent   int      `json:"sent"`
	Failed int      `json:"failed"`
	Errors []string `json:"errors,omitempty"` // the first few kinds
	P50    float64  `json:"p50"`              // ms from the scheduled arrival to the answer's end
	P99    float64  `json:"p99"`
	P999   float64  `json:"p999"`
}

// Open is the process of the open loop: requests arrive at address at rate per
// second, independent of each other (Poisson) and of the answers, for a time; fresh
// means a TCP connection for each, where the protocol is tcp. The outcome is one
// JSON line.
func Open(ctx context.Context, protocol, address string, rate int, d time.Duration, fresh bool, out io.Writer) error {
	client := &http.Client{Transport: transport(protocol, address, fresh), Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	target := vegeta.Target{Method: http.MethodGet, URL: "http://" + address + "/"}
	if protocol == "grpc" {
		target = vegeta.Target{Method: http.MethodPost, URL: "http://" + address + grpcPath, Body: grpcMessage(),
			Header: http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}}
	}
	arrivals := poisson(rate, d)
	attacker := vegeta.NewAttacker(vegeta.Client(client), vegeta.Workers(64), vegeta.MaxWorkers(4096))
	defer context.AfterFunc(ctx, func() { attacker.Stop() })()
	var r Result
	var latencies []float64
	kinds := map[string]bool{}
	for res := range attacker.Attack(vegeta.NewStaticTargeter(target), arrivals, 0, "") {
		r.Sent++
		due := arrivals.began.Add(arrivals.due[min(int(res.Seq), len(arrivals.due)-1)]) //nolint:gosec // a count
		latencies = append(latencies, float64(res.Timestamp.Add(res.Latency).Sub(due))/1e6)
		if res.Error == "" && res.Code == http.StatusOK && res.BytesIn >= BodySize {
			continue
		}
		r.Failed++
		if text := fmt.Sprintf("%d %s", res.Code, res.Error); len(kinds) < 8 && !kinds[text] {
			kinds[text] = true
			r.Errors = append(r.Errors, text)
		}
	}
	r.P50, r.P99, r.P999 = bench.Percentile(latencies, 0.5), bench.Percentile(latencies, 0.99), bench.Percentile(latencies, 0.999)
	return json.NewEncoder(out).Encode(r)
}

// schedule is a vegeta.Pacer that knows when each request is due.
type schedule struct {
	due   []time.Duration
	rate  float64
	began time.Time
}

// poisson schedules the same arrivals every time: variants are compared under
// one load.
func poisson(rate int, d time.Duration) *schedule {
	s := &schedule{rate: float64(rate)}
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable on purpose
	for at := 0.0; ; {
		if at += r.ExpFloat64() / float64(rate); at > d.Seconds() {
			return s
		}
		s.due = append(s.due, time.Duration(at*1e9))
	}
}

// Pace implements vegeta.Pacer.
func (s *schedule) Pace(elapsed time.Duration, hits uint64) (time.Duration, bool) {
	if s.began.IsZero() {
		s.began = time.Now().Add(-elapsed)
	}
	if hits >= uint64(len(s.due)) {
		return 0, true
	}
	return s.due[hits] - elapsed, false
}

// Rate implements vegeta.Pacer.
func (s *schedule) Rate(time.Duration) float64 { return s.rate }

// grpcMessage is a message of BodySize bytes with gRPC's prefix.
func grpcMessage() []byte {
	b := make([]byte, 5, 5+BodySize)
	binary.BigEndian.PutUint32(b[1:], BodySize)
	return append(b, bytes.Repeat([]byte{'x'}, BodySize)...)
}

func transport(protocol, address string, fresh bool) http.RoundTripper {
	if protocol == "tcp" {
		return &tcpTransport{address: address, fresh: fresh}
	}
	n := connections[protocol]
	if protocol == "http" {
		return &http.Transport{MaxIdleConnsPerHost: 4 * n, MaxIdleConns: 4 * n}
	}
	all := &manyTransports{grpc: protocol == "grpc"}
	for range n {
		t := &http.Transport{Protocols: &http.Protocols{}, DisableCompression: true}
		t.Protocols.SetUnencryptedHTTP2(true)
		all.transports = append(all.transports, t)
	}
	return all
}

// manyTransports spreads requests over HTTP/2 connections, and judges gRPC by
// its status.
type manyTransports struct {
	transports []*http.Transport
	grpc       bool
	next       atomic.Uint64
}

// RoundTrip implements http.RoundTripper.
func (m *manyTransports) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := m.transports[m.next.Add(1)%uint64(len(m.transports))].RoundTrip(r)
	if err != nil || !m.grpc {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if status := resp.Trailer.Get("Grpc-Status"); status != "0" {
		return nil, fmt.Errorf("grpc-status %q %s%s", status, resp.Trailer.Get("Grpc-Message"), resp.Header.Get("Grpc-Message"))
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// tcpTransport sends bytes on a pooled connection and waits for their echo.
type tcpTransport struct {
	address string
	fresh   bool
	mu      sync.Mutex
	idle    []net.Conn
}

// RoundTrip implements http.RoundTripper; the request says nothing.
func (t *tcpTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	conn, err := t.get(r.Context())
	if err != nil {
		return nil, err
	}
	if deadline, ok := r.Context().Deadline(); ok {
		conn.SetDeadline(deadline) //nolint:errcheck // a TCP connection has deadlines
	}
	buf := bytes.Repeat([]byte{'x'}, BodySize)
	if _, err := conn.Write(buf); err != nil {
		conn.Close()
		return nil, err
	}
	if _, err := io.ReadFull(conn, buf); err != nil {
		conn.Close()
		return nil, errors.Join(errors.New("no echo"), err)
	}
	if t.fresh {
		conn.Close()
	} else {
		t.mu.Lock()
		t.idle = append(t.idle, conn)
		t.mu.Unlock()
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(buf)), Request: r}, nil
}

func (t *tcpTransport) get(ctx context.Context) (net.Conn, error) {
	t.mu.Lock()
	if n := len(t.idle); n > 0 {
		conn := t.idle[n-1]
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		return conn, nil
	}
	t.mu.Unlock()
	return (&net.Dialer{}).DialContext(ctx, "tcp", t.address)
}

package push

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"patchbay/bench"
	"patchbay/bench/model"
	"patchbay/identity"
)

// counter counts what a server receives, the same way for every engine.
type counter struct {
	received atomic.Int64
	last     atomic.Int64 // when, see [bench.Mono]
}

func (c *counter) intercept(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
	return h(srv, counted{ss, c})
}

type counted struct {
	grpc.ServerStream
	*counter
}

func (s counted) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.received.Add(1)
		s.last.Store(bench.Mono())
	}
	return err
}

// served is a server's answer.
type served struct {
	Error    string  `json:"error,omitempty"`
	Address  string  `json:"address,omitempty"`
	Began    int64   `json:"began,omitempty"`    // change: when it began, see [bench.Mono]
	Applied  int64   `json:"applied,omitempty"`  // change: when the engine's function returned
	CPU      float64 `json:"cpu,omitempty"`      // settle: ms since arm
	Received int64   `json:"received,omitempty"` // settle: requests since arm
	Last     int64   `json:"last,omitempty"`     // settle: when the last of them came
	Made     float64 `json:"made,omitempty"`     // settle: responses encoded since arm, where that is known
	RSS      float64 `json:"rss,omitempty"`      // memory: bytes, as it stands
	Freed    float64 `json:"freed,omitempty"`    // memory: bytes, when what is free has been given back
	Heap     float64 `json:"heap,omitempty"`     // memory: bytes of live objects
}

// Serve is the server process: one engine on a loopback port, which takes
// orders from in until it is closed. certs is a directory of [model.WriteCerts], or
// empty for plain text.
func Serve(ctx context.Context, name string, streams, services, endpoints int, certs string, in io.Reader, out io.Writer) error {
	var guard *identity.Guard
	if certs != "" {
		var err error
		if guard, err = model.Guard(certs, slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
	}
	seen := &counter{}
	e, err := newEngine(name, model.Shape{Streams: streams, Services: services, Endpoints: endpoints}, seen.intercept, guard)
	if err != nil {
		return err
	}
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- e.serve(ctx, lis) }()
	answers := json.NewEncoder(out)
	if err := answers.Encode(served{Address: lis.Addr().String()}); err != nil {
		return err
	}
	s := &serving{engine: e, seen: seen}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var o model.Order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		if err := answers.Encode(s.obey(o)); err != nil {
			return err
		}
	}
	cancel()
	<-ended
	return nil
}

type serving struct {
	engine
	seen     *counter
	cpu      time.Duration
	received int64
	encoded  float64
}

// total is how many responses have been encoded.
func (s *serving) total() float64 {
	if s.made == nil {
		return 0
	}
	return s.made()
}

func (s *serving) obey(o model.Order) served {
	switch o.Do {
	case "arm":
		s.cpu, s.received = bench.SelfCPU(), s.seen.received.Load()
		s.encoded = s.total()
		return served{}
	case "change":
		began := bench.Mono()
		if err := s.change(o.N); err != nil {
			return served{Error: err.Error()}
		}
		return served{Began: began, Applied: bench.Mono()}
	case "settle":
		cpu := s.settle()
		return served{CPU: (cpu - s.cpu).Seconds() * 1000, Received: s.seen.received.Load() - s.received, Last: s.seen.last.Load(), Made: s.total() - s.encoded}
	case "profile": // of the processor, into a file; an empty name ends it
		if o.Kind == "" {
			pprof.StopCPUProfile()
			return served{}
		}
		f, err := os.Create(o.Kind)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			return served{Error: err.Error()}
		}
		return served{}
	case "memory":
		s.settle()
		rss, err := bench.RSS(os.Getpid())
		if err != nil {
			return served{Error: err.Error()}
		}
		debug.FreeOSMemory()
		freed, _ := bench.RSS(os.Getpid())
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return served{RSS: rss, Freed: freed, Heap: float64(m.HeapAlloc)}
	}
	return served{Error: fmt.Sprintf("no order is called %q", o.Do)}
}

// settle waits until the process has nothing to do: for 40 ms no request came
// and less than 1 ms in 10 was used. It returns the processor time used before
// that.
func (s *serving) settle() time.Duration {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(2 * time.Minute)
	cpu, received, since := bench.SelfCPU(), s.seen.received.Load(), 0
	busy := cpu
	for since < 4 && time.Now().Before(deadline) {
		<-tick.C
		now, n := bench.SelfCPU(), s.seen.received.Load()
		since++
		if n != received || now-cpu > time.Millisecond {
			since, busy = 0, now
		}
		cpu, received = now, n
	}
	return busy
}

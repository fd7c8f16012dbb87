package push

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"patchbay/bench"
	"patchbay/xds/translate"
)

// patience is how long anything may take before the run is given up.
const patience = 3 * time.Minute

// fleet is a process full of model clients, each on a connection of its own.
type fleet struct {
	shape   shape
	address string
	creds   credentials.TransportCredentials
	clients []*client
	nodes   []raw      // the node of each, as part of a request
	first   [kinds]raw // the first request for each type

	// held is what the first client holds; all hold the same between two
	// orders.
	held [kinds]map[string]string
	irv  [kinds]raw // the requests of a returning client

	mu      sync.Mutex
	waiting atomic.Int64  // clients that the current order still waits for
	done    chan struct{} // closed when none is left
	failed  chan error
}

// shown is a fleet's answer.
type shown struct {
	Error     string  `json:"error,omitempty"`
	Began     int64   `json:"began,omitempty"` // connect
	Ended     int64   `json:"ended,omitempty"` // connect: the last client had everything
	In        int64   `json:"in"`              // bytes of responses since the last order
	Out       int64   `json:"out"`             // bytes of requests
	Responses int64   `json:"responses"`
	At        []int64 `json:"at,omitempty"` // wait: when each healthy client had the change
}

// Connect is the process of model clients of the server at address. It takes
// orders from in until it is closed.
func Connect(ctx context.Context, streams, services int, address, certs string, in io.Reader, out io.Writer) error {
	f := &fleet{shape: shape{Streams: streams, Services: services}, address: address, creds: insecure.NewCredentials(), failed: make(chan error, 1)}
	if certs != "" {
		c, err := readCerts(certs)
		if err != nil {
			return err
		}
		f.creds = credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{c.pair}, RootCAs: c.roots, ServerName: serverName, MinVersion: tls.VersionTLS13})
	}
	for k := range kinds {
		f.first[k] = encode(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[k], ResourceNamesSubscribe: f.shape.names(k)})
	}
	for i := range streams {
		f.nodes = append(f.nodes, encode(&discoveryv3.DeltaDiscoveryRequest{Node: node(i)}))
	}
	defer f.disconnect()
	answers := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		a, err := f.obey(ctx, o)
		if err != nil {
			a.Error = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) obey(ctx context.Context, o order) (shown, error) {
	switch o.Do {
	case "connect":
		return f.connect(ctx, o.Warm)
	case "disconnect":
		f.disconnect()
		return shown{}, nil
	case "misbehave": // the last of the clients do
		for i, c := range f.clients {
			c.misbehave(o.Kind, i >= len(f.clients)*(100-o.Percent)/100)
		}
		return shown{}, nil
	case "arm":
		f.arm()
		return shown{}, nil
	case "wait":
		return f.wait(ctx)
	case "traffic":
		return f.traffic(shown{}), nil
	}
	return shown{}, fmt.Errorf("no order is called %q", o.Do)
}

// connect opens all streams at once. A cold client knows nothing; a warm one
// says what it holds, as an Envoy does that has lost its control plane.
func (f *fleet) connect(ctx context.Context, warm bool) (shown, error) {
	if warm {
		f.irv = returning(f.held)
	} else {
		for k := range f.held {
			f.held[k] = map[string]string{}
		}
	}
	f.expect(f.shape.Streams)
	f.clients = make([]*client, f.shape.Streams)
	began := bench.Mono()
	for i := range f.clients {
		f.clients[i] = newClient(ctx, f, i, warm)
		go f.clients[i].run()
	}
	if err := f.until(ctx); err != nil {
		return shown{}, fmt.Errorf("connect: %w; %d of %d clients do not have everything", err, f.waiting.Load(), f.shape.Streams)
	}
	return f.traffic(shown{Began: began, Ended: bench.Mono()}), nil
}

// returning are the four requests with which an Envoy comes back.
func returning(held [kinds]map[string]string) (out [kinds]raw) {
	for k := range kinds {
		r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[k], InitialResourceVersions: held[k]}
		if k == eds || k == rds {
			r.ResourceNamesSubscribe = slices.Sorted(maps.Keys(held[k]))
		}
		out[k] = encode(r)
	}
	return out
}

// names are what an Envoy asks for by name: endpoints under the names of the
// clusters that it was told of, routes under those of the listeners.
func (s shape) names(k kind) []string {
	var out []string
	for _, v := range s.services() {
		switch k {
		case eds:
			out = append(out, v.Name.String())
		case rds:
			for _, a := range v.Aliases {
				out = append(out, translate.EgressName(a))
			}
		}
	}
	return out
}

func (f *fleet) disconnect() {
	var all sync.WaitGroup
	for _, c := range f.clients {
		all.Go(c.close)
	}
	all.Wait()
	f.clients = nil
}

// arm makes every healthy client note when it next hears of endpoints.
func (f *fleet) arm() {
	f.traffic(shown{})
	n := 0
	for _, c := range f.clients {
		if c.armed.Store(!c.bad.Load()); c.armed.Load() {
			n++
		}
		c.at.Store(0)
	}
	f.expect(n)
}

// wait waits until all that were armed have heard.
func (f *fleet) wait(ctx context.Context) (shown, error) {
	err := f.until(ctx)
	if err != nil {
		err = fmt.Errorf("wait for a change: %w; %d clients have not heard", err, f.waiting.Load())
	}
	var s shown
	for _, c := range f.clients {
		if t := c.at.Load(); t != 0 {
			s.At = append(s.At, t)
		}
	}
	return f.traffic(s), err
}

func (f *fleet) expect(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting.Store(int64(n))
	f.done = make(chan struct{})
}

// one counts a client off.
func (f *fleet) one() {
	if f.waiting.Add(-1) == 0 {
		f.mu.Lock()
		defer f.mu.Unlock()
		close(f.done)
	}
}

func (f *fleet) until(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%v are over", patience))
	defer cancel()
	select {
	case <-f.done:
		return nil
	case err := <-f.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// traffic adds what all clients have sent and received since it was last asked.
func (f *fleet) traffic(s shown) shown {
	for _, c := range f.clients {
		s.In += c.in.Swap(0)
		s.Out += c.out.Swap(0)
		s.Responses += c.responses.Swap(0)
	}
	return s
}

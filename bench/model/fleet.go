package model

import (
	"bufio"
	"context"
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
	shape   Shape
	address string
	creds   func(number int) credentials.TransportCredentials
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

// Order is what the measuring process tells a server or a fleet, one JSON
// object a line.
type Order struct {
	Do      string `json:"do"`
	N       int    `json:"n,omitempty"`
	Warm    bool   `json:"warm,omitempty"`
	Kind    string `json:"kind,omitempty"`
	Percent int    `json:"percent,omitempty"`
}

// Heard is a fleet's answer.
type Heard struct {
	Error     string  `json:"error,omitempty"`
	Began     int64   `json:"began,omitempty"` // connect
	Ended     int64   `json:"ended,omitempty"` // connect: the last client had everything
	In        int64   `json:"in"`              // bytes of responses since the last order
	Out       int64   `json:"out"`             // bytes of requests
	Responses int64   `json:"responses"`
	At        []int64 `json:"at,omitempty"` // wait: when each healthy client had the change
}

// Connect is the process of model clients of the server at address. It takes
// orders from in until it is closed. first is the number of the first, for
// several processes of one server. dir is a directory of [WriteCerts], or
// empty for plain text.
func Connect(ctx context.Context, s Shape, first int, address, dir string, in io.Reader, out io.Writer) error {
	f := &fleet{shape: s, address: address, failed: make(chan error, 1)}
	f.creds = func(int) credentials.TransportCredentials { return insecure.NewCredentials() }
	if dir != "" {
		c, err := readCerts(dir)
		if err != nil {
			return err
		}
		f.creds = func(number int) credentials.TransportCredentials { return credentials.NewTLS(c.config(number)) }
	}
	for k := range kinds {
		f.first[k] = encode(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[k], ResourceNamesSubscribe: f.shape.names(k)})
	}
	for i := range s.Streams {
		f.nodes = append(f.nodes, encode(&discoveryv3.DeltaDiscoveryRequest{Node: Node(first + i)}))
	}
	defer f.disconnect()
	answers := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var o Order
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

func (f *fleet) obey(ctx context.Context, o Order) (Heard, error) {
	switch o.Do {
	case "connect":
		return f.connect(ctx, o.Warm)
	case "disconnect":
		f.disconnect()
		return Heard{}, nil
	case "misbehave": // the last of the clients do
		for i, c := range f.clients {
			c.misbehave(o.Kind, i >= len(f.clients)*(100-o.Percent)/100)
		}
		return Heard{}, nil
	case "arm":
		f.arm()
		return Heard{}, nil
	case "wait":
		return f.wait(ctx)
	case "traffic":
		return f.traffic(Heard{}), nil
	}
	return Heard{}, fmt.Errorf("no order is called %q", o.Do)
}

// connect opens all streams at once. A cold client knows nothing; a warm one
// says what it holds, as an Envoy does that has lost its control plane.
func (f *fleet) connect(ctx context.Context, warm bool) (Heard, error) {
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
		return Heard{}, fmt.Errorf("connect: %w; %d of %d clients do not have everything", err, f.waiting.Load(), f.shape.Streams)
	}
	return f.traffic(Heard{Began: began, Ended: bench.Mono()}), nil
}

// returning are the four requests with which an Envoy comes back.
func returning(held [kinds]map[string]string) (out [kinds]raw) {
	for k := range kinds {
		if k == leds {
			continue
		}
		r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[k], InitialResourceVersions: held[k]}
		if k == eds || k == rds {
			r.ResourceNamesSubscribe = slices.Sorted(maps.Keys(held[k]))
		}
		out[k] = encode(r)
	}
	if len(held[leds]) > 0 { // Envoy keeps no versions of members
		out[leds] = encode(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[leds], ResourceNamesSubscribe: slices.Sorted(maps.Keys(held[leds]))})
	}
	return out
}

// names are what an Envoy asks for by name: endpoints under the names of the
// clusters that it was told of, routes under those of the listeners.
func (s Shape) names(k kind) []string {
	var out []string
	for _, v := range s.Mesh() {
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
	f.traffic(Heard{})
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
func (f *fleet) wait(ctx context.Context) (Heard, error) {
	err := f.until(ctx)
	if err != nil {
		err = fmt.Errorf("wait for a change: %w; %d clients have not heard", err, f.waiting.Load())
	}
	var s Heard
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
func (f *fleet) traffic(s Heard) Heard {
	for _, c := range f.clients {
		s.In += c.in.Swap(0)
		s.Out += c.out.Swap(0)
		s.Responses += c.responses.Swap(0)
	}
	return s
}

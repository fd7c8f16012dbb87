// Package push measures the push path: one endpoint changes, and all connected
// Envoys are told. The product's engine and go-control-plane's caches do the
// same work, each in a server process of its own, for the same model clients in
// a process of their own, in turn within one run.
//
// It uses the product from outside: a mesh.Store, a Pusher, a Server. Start
// reading at [Run], then engine.
package push

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"patchbay/bench"
	"patchbay/bench/model"
)

// Job is the push path.
var Job = bench.Job{
	Name: "push", Title: "Push path", Limit: 10 * time.Minute,
	About: strings.Join([]string{
		"One endpoint of one service becomes unhealthy and every connected sidecar is told: by patchbay, and by go-control-plane's delta server over its linear cache,",
		"its snapshot cache with one snapshot for all nodes, and with one for each. Each engine is a process of its own; so are its model clients,",
		"one connection and one delta ADS stream each, which subscribe as Envoy does (all clusters and listeners, endpoints and routes by name, a node of 60 kB),",
		"accept everything and do not decode resources. The engines take turns within one run.",
		"*CPU* is getrusage of the server process, from before the change until nothing is left to do, ACKs and garbage collection included.",
		"With *mTLS* each client shows a certificate of its own, and patchbay's streams pass the guard of its control channel.",
		"*Last ACK* is from before the change until the server has received the last ACK. *Memory per sidecar* is resident memory, less that before any",
		"connected, by the number of sidecars: *at once* after the first cold connect; *after the calm* when what was free has been given back to the system,",
		"as the product itself does ten seconds after a storm of connections.",
	}, "\n"),
	Run: Run, Goals: goals,
}

// child is a process under orders.
type child struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	log  string
}

func start(ctx context.Context, o bench.Options, name string, args ...string) (*child, error) {
	c := &child{name: name, cmd: exec.CommandContext(ctx, o.Self, args...)} //nolint:gosec // this program
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.CreateTemp(o.Dir, "push-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.log, c.cmd.Stderr = log.Name(), log
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewScanner(out)
	c.out.Buffer(nil, 1<<20)
	return c, c.cmd.Start()
}

// tell gives an order and reads the answer.
func (c *child) tell(o model.Order, answer any) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if _, err := c.in.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("%s: %w: %s", c.name, err, c.tail())
	}
	if err := c.hear(answer); err != nil {
		return fmt.Errorf("%s, %s: %w", c.name, o.Do, err)
	}
	return nil
}

func (c *child) hear(answer any) error {
	if !c.out.Scan() {
		return fmt.Errorf("it ended: %s", c.tail())
	}
	var failed struct{ Error string }
	if err := json.Unmarshal(c.out.Bytes(), &failed); err != nil {
		return err
	}
	if failed.Error != "" {
		return errors.New(failed.Error)
	}
	return json.Unmarshal(c.out.Bytes(), answer)
}

func (c *child) tail() string {
	b, _ := os.ReadFile(c.log)
	return string(b[max(0, len(b)-2000):])
}

func (c *child) stop() {
	c.in.Close()
	gone := make(chan struct{})
	go func() { c.cmd.Wait(); close(gone) }() //nolint:errcheck // it is told to end
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		c.cmd.Process.Kill() //nolint:errcheck // it may have ended
		<-gone
	}
}

// pair is an engine's process and that of its clients.
type pair struct {
	variant string // name in the results
	engine  string
	shape   model.Shape
	server  *child
	fleet   *child
	address string
	changes int // made so far
}

func (r *runner) pair(ctx context.Context, variant, engine string, s model.Shape, mutual bool) (*pair, error) {
	p := &pair{variant: variant, engine: engine, shape: s}
	certs := ""
	if mutual {
		certs = filepath.Join(r.Dir, "certs")
	}
	var err error
	p.server, err = start(ctx, r.Options, variant, "push-server", "--engine", engine, "--certs", certs, "--streams", strconv.Itoa(s.Streams),
		"--services", strconv.Itoa(s.Services), "--endpoints", strconv.Itoa(s.Endpoints))
	if err != nil {
		return nil, err
	}
	var s0 served
	if err := p.server.hear(&s0); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s: %w", variant, err)
	}
	p.address = s0.Address
	if p.fleet, err = r.clients(ctx, p, "the clients of "+variant, s, certs, 0); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// clients starts a process of clients of p, the number of whose first is given.
func (r *runner) clients(ctx context.Context, p *pair, name string, s model.Shape, certs string, first int) (*child, error) {
	return start(ctx, r.Options, name, "push-clients", "--address", p.address, "--certs", certs, "--first", strconv.Itoa(first),
		"--streams", strconv.Itoa(s.Streams), "--services", strconv.Itoa(s.Services), "--endpoints", strconv.Itoa(s.Endpoints))
}

func (p *pair) stop() {
	if p.fleet != nil {
		p.fleet.stop()
	}
	p.server.stop()
}

// connected is what it took to connect all sidecars.
type connected struct {
	took     time.Duration
	cpu      float64 // ms of the server
	in, out  float64 // bytes per sidecar
	rss      float64 // bytes per sidecar, see Job.About
	inUse    float64
	baseline float64
}

// connect connects all sidecars; memory is measured if asked for.
func (p *pair) connect(warm, memory bool) (c connected, err error) {
	var before, after, sv served
	var f, rest model.Heard
	if memory {
		if err := p.server.tell(model.Order{Do: "memory"}, &before); err != nil {
			return c, err
		}
	}
	if err := p.server.tell(model.Order{Do: "arm"}, &sv); err != nil {
		return c, err
	}
	if err := p.fleet.tell(model.Order{Do: "connect", Warm: warm}, &f); err != nil {
		return c, err
	}
	if err := p.server.tell(model.Order{Do: "settle"}, &sv); err != nil {
		return c, err
	}
	if err := p.fleet.tell(model.Order{Do: "traffic"}, &rest); err != nil {
		return c, err
	}
	n := float64(p.shape.Streams)
	c = connected{took: time.Duration(f.Ended - f.Began), cpu: sv.CPU, in: float64(f.In+rest.In) / n, out: float64(f.Out+rest.Out) / n}
	if memory {
		if err := p.server.tell(model.Order{Do: "memory"}, &after); err != nil {
			return c, err
		}
		c.baseline = before.Freed
		c.rss, c.inUse = (after.RSS-before.Freed)/n, (after.Freed-before.Freed)/n
	}
	return c, nil
}

func (p *pair) disconnect() error {
	var f model.Heard
	if err := p.fleet.tell(model.Order{Do: "disconnect"}, &f); err != nil {
		return err
	}
	return p.server.tell(model.Order{Do: "settle"}, &served{})
}

// pushed is what one change took.
type pushed struct {
	call     time.Duration // the engine's function
	lastACK  time.Duration
	cpu      float64   // ms of the server
	in       float64   // bytes per sidecar that heard
	heard    []float64 // ms until each healthy sidecar had it
	requests int64
	made     float64 // responses encoded
}

// push makes one change and waits until nothing is left of it.
func (p *pair) push() (pushed, error) {
	var s, changed served
	var f model.Heard
	if err := p.fleet.tell(model.Order{Do: "arm"}, &f); err != nil {
		return pushed{}, err
	}
	if err := p.server.tell(model.Order{Do: "arm"}, &s); err != nil {
		return pushed{}, err
	}
	if err := p.server.tell(model.Order{Do: "change", N: p.changes}, &changed); err != nil {
		return pushed{}, err
	}
	p.changes++
	if err := p.fleet.tell(model.Order{Do: "wait"}, &f); err != nil {
		return pushed{}, err
	}
	if err := p.server.tell(model.Order{Do: "settle"}, &s); err != nil {
		return pushed{}, err
	}
	r := pushed{
		call: time.Duration(changed.Applied - changed.Began), lastACK: time.Duration(s.Last - changed.Began), cpu: s.CPU,
		in: float64(f.In) / float64(max(1, f.Responses)), requests: s.Received, made: s.Made,
	}
	for _, t := range f.At {
		r.heard = append(r.heard, float64(t-changed.Began)/1e6)
	}
	return r, nil
}
